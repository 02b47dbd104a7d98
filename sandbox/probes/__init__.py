"""What runs inside of the throwaway process of `sandbox.probe`: one function a feature, each in a fork of its own.

A function tries its feature as the backends use it, with their own code where there is some, looks at the effect,
and returns a detail for people (often empty). It fails with `StepFailed`, which keeps the errno, or, when a call
succeeded and nothing came of it, with `SandboxError`: some kernels answer success to what they do not implement.
"""
