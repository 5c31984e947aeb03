//! `wasi:clocks`, the waiting of `wasi:io/poll`, and `wasi:random`. Invariant: nobody sleeps past the
//! deadline of the call.

use super::filesystem::Datetime;
use crate::sandbox::State;
use crate::sandbox::limits::Limited as _;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};
use wasmtime::component::{Linker, Resource};
use wasmtime::{StoreContextMut, Trap};

/// How many random bytes one call gives at the most.
const MAX_RANDOM: u64 = 64 * 1024;

/// What can be waited for: a moment, or nothing at all.
pub(super) struct Pollable(pub(super) Option<Instant>);

pub(super) fn add_to_linker(linker: &mut Linker<State>) -> wasmtime::Result<()> {
    let mut poll = linker.instance("wasi:io/poll@0.2.0")?;
    super::drops::<Pollable>(&mut poll, "pollable", |state| &mut state.wasi.table)?;
    poll.func_wrap(
        "[method]pollable.block",
        |mut store: StoreContextMut<'_, State>, (pollable,): (Resource<Pollable>,)| {
            let Pollable(until) = store.data().wasi.table.get(&pollable)?;
            let pause = until.map_or(Duration::ZERO, |until| until.saturating_duration_since(Instant::now()));
            let left = store.data_mut().limits().time_left().unwrap_or(Duration::MAX);
            if pause > Duration::ZERO {
                std::thread::sleep(pause.min(left));
            }
            if left < pause {
                return Err(Trap::Interrupt.into());
            }
            Ok(())
        },
    )?;

    let mut wall = linker.instance("wasi:clocks/wall-clock@0.2.0")?;
    wall.func_wrap("now", |_: StoreContextMut<'_, State>, (): ()| {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        Ok((Datetime { seconds: now.as_secs(), nanoseconds: now.subsec_nanos() },))
    })?;

    let mut monotonic = linker.instance("wasi:clocks/monotonic-clock@0.2.0")?;
    monotonic.func_wrap(
        "subscribe-duration",
        |mut store: StoreContextMut<'_, State>, (nanoseconds,): (u64,)| {
            let now = Instant::now();
            // Beyond what the clock can say is beyond every deadline.
            let until = now.checked_add(Duration::from_nanos(nanoseconds)).unwrap_or(now);
            Ok((store.data_mut().wasi.table.push(Pollable(Some(until)))?,))
        },
    )?;

    let mut random = linker.instance("wasi:random/random@0.2.0")?;
    random.func_wrap("get-random-bytes", |_: StoreContextMut<'_, State>, (len,): (u64,)| {
        if len > MAX_RANDOM {
            return Err(wasmtime::format_err!("{len} random bytes asked for; {MAX_RANDOM} is the most"));
        }
        let mut bytes = vec![0; usize::try_from(len).unwrap_or(0)];
        getrandom::fill(&mut bytes).map_err(wasmtime::Error::msg)?;
        Ok((bytes,))
    })?;
    Ok(())
}
