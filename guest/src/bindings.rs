//! The bindings that wit-bindgen makes of `wit/`. Nothing is written by hand here: the unsafe code is
//! what the macros expand to, and the only other is in `runtime`.
#![allow(unsafe_code, missing_docs, unreachable_pub, clippy::all, reason = "generated code")]

wit_bindgen::generate!({ path: "../wit", world: "consolidation", generate_all });

export!(Component);

use crate::component::Component;
