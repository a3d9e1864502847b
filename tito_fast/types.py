"""Names for values that many modules exchange. Holds types only, no behaviour."""

from typing import Literal, get_args

Backend = Literal["auto", "reference", "eager", "native", "triton"]
BACKENDS: tuple[Backend, ...] = get_args(Backend)

Coupling = Literal["none", "r", "released", "p", "pr", "rp"]
COUPLINGS: tuple[Coupling, ...] = get_args(Coupling)

Precision = Literal["fp32", "tf32", "bf16", "fp64"]
PRECISIONS: tuple[Precision, ...] = get_args(Precision)

Check = Literal["off", "mark", "drop"]
"""What becomes of unsound frames."""
CHECKS: tuple[Check, ...] = get_args(Check)

VectorStart = Literal["randn", "randn_fixed", "zeros", "condition"]
VECTOR_STARTS: tuple[VectorStart, ...] = get_args(VectorStart)

Objective = Literal["velocity", "noise"]
"""What a network predicts: a flow's velocity, or a diffusion's noise."""
OBJECTIVES: tuple[Objective, ...] = get_args(Objective)

NoiseScheduleName = Literal["sigmoid", "polynomial", "cosine"]
NOISE_SCHEDULES: tuple[NoiseScheduleName, ...] = get_args(NoiseScheduleName)

MessageKind = Literal["edge", "source"]
MESSAGE_KINDS: tuple[MessageKind, ...] = get_args(MessageKind)

LagInput = Literal["velocity", "condition"]
"""Which network reads the lag."""
LAG_INPUTS: tuple[LagInput, ...] = get_args(LagInput)

ProductPrecision = Literal["ieee", "fp32", "tf32", "bf16"]
"""How the Triton kernels multiply float32: exactly, as three bf16 products, or rounded to TF32 or bf16."""
PRODUCT_PRECISIONS: tuple[ProductPrecision, ...] = get_args(ProductPrecision)
