//! The order of steps, defaults and fallbacks.
