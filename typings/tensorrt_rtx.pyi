# What TensorRT-RTX has beyond typings/tensorrt.pyi, as far as bdflow-rt calls it.
from tensorrt import ExecutionContextAllocationStrategy, IExecutionContext, IHostMemory

class IBuilderConfig:
    num_compute_capabilities: int
    def set_compute_capability(self, compute_capability: ComputeCapability, index: int) -> bool: ...

class ComputeCapability:
    __members__: dict[str, ComputeCapability]

class Runtime:
    def get_engine_validity(self, buffer: bytes) -> tuple[EngineValidity, int]: ...

class ICudaEngine:
    def create_runtime_config(self) -> IRuntimeConfig: ...
    def create_execution_context(self, runtime_config: IRuntimeConfig) -> IExecutionContext | None: ...

class IRuntimeConfig:
    cuda_graph_strategy: CudaGraphStrategy
    dynamic_shapes_kernel_specialization_strategy: DynamicShapesKernelSpecializationStrategy
    def set_execution_context_allocation_strategy(self, strategy: ExecutionContextAllocationStrategy) -> None: ...
    def create_runtime_cache(self) -> IRuntimeCache: ...
    def set_runtime_cache(self, cache: IRuntimeCache) -> bool: ...

class IRuntimeCache:
    def serialize(self) -> IHostMemory: ...
    def deserialize(self, blob: bytes) -> bool: ...

class CudaGraphStrategy:
    DISABLED: CudaGraphStrategy

class DynamicShapesKernelSpecializationStrategy:
    EAGER: DynamicShapesKernelSpecializationStrategy

class EngineValidity:
    INVALID: EngineValidity

class EngineInvalidityDiagnostics:
    __members__: dict[str, EngineInvalidityDiagnostics]
