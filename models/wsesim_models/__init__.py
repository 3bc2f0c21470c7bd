"""Llama models: configurations, the torch module, weights from files, tokenizers, and the models' cache.

config.py, config_files.py   LlamaConfig, the table of known models; the same from config.json or a GGUF file
llama.py                     the torch module (the only file here that imports torch)
weights/, tokenizers/        open what a user has on disk
cache.py, load.py            what can be pulled; a name and a path to everything that a run needs

Nothing is imported here, so that naming the package costs nothing.
"""
