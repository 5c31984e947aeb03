//! The bindings that wit-bindgen makes of `wit/plugin`. Nothing is written by hand here, and the only
//! unsafe code of this crate is what the macros expand to.
#![allow(unsafe_code, missing_docs, unreachable_pub, clippy::all, reason = "generated code")]

wit_bindgen::generate!({ path: "../../../wit/plugin", world: "plugin" });

export!(Component);

use crate::component::Component;
