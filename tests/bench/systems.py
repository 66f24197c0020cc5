"""What is compared: how each system is started. Standard library only, for the driver."""
from dataclasses import dataclass, field


@dataclass
class System:
    title: str
    module: str = ""                                # ops_*.py; none: the training binary itself
    arguments: dict = field(default_factory=dict)   # of its class System
    environment: dict = field(default_factory=dict)
    packages: list = field(default_factory=list)    # on PyPI
    precisions: tuple = ("float32",)


# As in `precision` of a train block: weights in f32, and what layers compute in.
PRECISIONS = BOTH = ("float32", "mixed_bfloat16")

SYSTEMS = {
    "nnc": System("nnc", precisions=BOTH),
    "torch": System("PyTorch", "ops_torch", packages=["torch"], precisions=BOTH),
    "torch.compile": System("PyTorch, compiled", "ops_torch", {"compiled": True},
                            {"TORCHINDUCTOR_COMPILE_THREADS": "1"}, ["torch"], BOTH),
    "jax": System("JAX", "ops_jax", packages=["jax"]),
    "keras": System("Keras", "ops_keras", {"xla": False}, packages=["keras", "tensorflow"],
                    precisions=BOTH),
    "keras-xla": System("Keras, XLA", "ops_keras", {"xla": True},
                        packages=["keras", "tensorflow"], precisions=BOTH),
    "tinygrad": System("tinygrad", "ops_tinygrad", {}, {"DEV": "CPU"}, ["tinygrad"]),
}


def environment(system, threads, cache):
    """Set before a peer starts. `cache`: a fresh directory, so that no compilation is remembered."""
    n = str(threads)
    return {"OMP_NUM_THREADS": n, "MKL_NUM_THREADS": n, "OPENBLAS_NUM_THREADS": n,
            "TF_NUM_INTRAOP_THREADS": n, "TF_NUM_INTEROP_THREADS": "1",
            "TF_CPP_MIN_LOG_LEVEL": "3", "CUDA_VISIBLE_DEVICES": "",
            "XDG_CACHE_HOME": cache, "CACHEDB": cache + "/tinygrad.db",
            "TORCHINDUCTOR_CACHE_DIR": cache + "/inductor",
            # Memory that was freed is used again, instead of being returned and faulted in each step.
            "GLIBC_TUNABLES": "glibc.malloc.mmap_max=0:glibc.malloc.trim_threshold=9999999999",
            **SYSTEMS[system].environment}
