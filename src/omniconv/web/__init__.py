"""WebAssembly: modules of layers for a page, and a kernel that serves layers of any setting."""

from omniconv.web.module import WebModule, compile_web
from omniconv.web.tap_plan import TapCall, TapPlan, plan_taps
from omniconv.web.taps import WORDS, compile_taps

__all__ = ["WORDS", "TapCall", "TapPlan", "WebModule", "compile_taps", "compile_web", "plan_taps"]
