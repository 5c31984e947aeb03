//! `pow` of the C library, for the `consolidate` program alone: a library must not bring a symbol of this name.
//!
//! Nothing but a statistic of tokio's scheduler calls it, and for that one function the system would load and
//! relocate its library of mathematics at each start, which is a twentieth of the time of a short command.
#![allow(unsafe_code, reason = "a symbol of C's")]

// SAFETY: it is what C says of `pow`, in its signature and in what it gives; it keeps nothing and changes nothing.
#[unsafe(no_mangle)]
extern "C" fn pow(base: f64, exponent: f64) -> f64 {
    libm::pow(base, exponent)
}
