# What TensorRT-RTX has beyond typings/tensorrt.pyi, as far as bdflow-rt calls it.
class IBuilderConfig:
    num_compute_capabilities: int
    def set_compute_capability(self, compute_capability: ComputeCapability, index: int) -> bool: ...

class ComputeCapability:
    __members__: dict[str, ComputeCapability]
