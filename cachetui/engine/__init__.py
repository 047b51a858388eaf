"""Loading, prompting, saved state: plain functions over torch and transformers, no user interface and no protocol.

The only package that imports torch, transformers and bitsandbytes. Worker processes use it, and `cachetui.VLM` and
`cachetui.quantized` in the caller's own process; nothing else may (an import-linter contract says so).
"""
