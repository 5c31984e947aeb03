//! The guest's own code in a simulator.

mod beginnings;
mod contender;
mod disk;
mod itself;
mod late;
mod ledger;
mod naive;
mod points;
mod preempt;
mod random;
mod schedule;
mod world;
mod wrong;

/// A number that the environment gives.
fn number<T: std::str::FromStr>(variable: &str, otherwise: T) -> T {
    std::env::var(variable).ok().and_then(|text| text.parse().ok()).unwrap_or(otherwise)
}

/// Is everything to be tried? See the head of the module.
fn in_full() -> bool {
    std::env::var_os("CONSOLIDATION_SIM_FULL").is_some()
}
