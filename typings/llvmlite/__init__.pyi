# What this project uses of llvmlite, which has no type information of its own, for the type checker.
__version__: str
