"""python -m cachetui."""

from cachetui.cli import main

if __name__ == "__main__":
    main()
