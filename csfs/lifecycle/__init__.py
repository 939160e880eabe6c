"""The lifecycle of a project: one module per action, and the intents that make each safe."""
