"""Kinds of designs."""

from hwdse.specs.design import CoreDesign, Design
from hwdse.specs.serving.engine import ServingDesign

AnyDesign = Design | CoreDesign | ServingDesign
"""Design of a cluster, a core or a service."""
