"""Core and network of three different operators, for tests of mappings."""

from hwdse.config import load_accelerator
from hwdse.config.design.operator_csv import parse_operators

CORE = load_accelerator("gemmini")
NETWORK = parse_operators(
    """name,R,S,P,Q,C,K,N,stride_p,stride_q,count
ffn,1,1,128,1,768,512,1,1,1,2
score,1,1,128,1,64,128,1,1,1,12
conv,3,3,14,14,64,96,1,2,2,3
""",
    "network",
)
