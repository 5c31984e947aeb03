mod disk;
mod naive;
mod roster;
mod world;

use std::time::Instant;

use stateright::{Checker, Model as _};

use naive::Protocol::{CheckThenWrite, CreateOnly, RenameAsideThenLink, UnlinkThenCreate};
use roster::{ROSTER, Rules};
use world::{Claim, Model, Protocol, Trace};

fn go(name: &str, c: &[(Protocol, u8)], claim: Claim) {
    let t = Instant::now();
    let c = Model::new(c, &[claim]).checker().threads(1).spawn_bfs().join();
    println!("=== {name}: {claim:?} unique {} all {} depth {} {:?}", c.unique_state_count(), c.state_count(), c.max_depth(), t.elapsed());
    for (_, p) in c.discoveries() { println!("{}", Trace(p.into_vec())); }
}

#[test]
fn dev() {
    let late = Protocol::Roster(Rules { flag_before_scan: false, ..ROSTER });
    let once = Protocol::Roster(Rules { look_again: false, ..ROSTER });
    let nolinks = Protocol::Roster(Rules { links: false, ..ROSTER });
    let ours = Protocol::Roster(ROSTER);
    for p in [CheckThenWrite, UnlinkThenCreate, RenameAsideThenLink, CreateOnly] {
        go(&format!("{p:?}"), &[(Protocol::Naive(p), 2); 2], Claim::OneHolder);
        go(&format!("{p:?}"), &[(Protocol::Naive(p), 2); 3], Claim::OneHolder);
    }
    go("late", &[(late, 2), (late, 2)], Claim::OneHolder);
    go("late", &[(late, 1), (late, 1), (late, 1)], Claim::OneHolder);
    go("once", &[(once, 2), (once, 2)], Claim::OneHolder);
    go("once", &[(once, 2), (once, 2)], Claim::NeverBreaksALiveLock);
    go("once+create", &[(once, 1), (Protocol::Naive(CreateOnly), 2)], Claim::OneHolder);
    go("ours+create", &[(ours, 2), (ours, 1), (Protocol::Naive(CreateOnly), 2)], Claim::OneHolder);
    go("once+orig", &[(once, 1), (Protocol::Naive(CheckThenWrite), 2)], Claim::NeverBreaksALiveLock);
    go("ours+orig", &[(ours, 2), (ours, 1), (Protocol::Naive(CheckThenWrite), 2)], Claim::NeverBreaksALiveLock);
    go("ours+orig", &[(ours, 1), (Protocol::Naive(CheckThenWrite), 2)], Claim::OneHolder);
    go("ours+orig", &[(ours, 1), (Protocol::Naive(CheckThenWrite), 2)], Claim::NewcomerAcquires);
    for c in [Claim::OneHolder, Claim::HolderHasTheLock, Claim::NewcomerAcquires, Claim::LivingLeaveNothing] {
    go("nolinks", &[(nolinks, 2), (nolinks, 1), (nolinks, 1)], c);
    }
    let t = Instant::now();
    let patient = Protocol::Roster(Rules { patient: true, ..ROSTER });
    let c = Model::new(&[(patient, 2), (patient, 2)], &[Claim::NotEverybodyRefused]).without_faults().checker().threads(1).spawn_bfs().join();
    println!("patient {:?} {} {:?}", c.discoveries().len(), c.unique_state_count(), t.elapsed());
    let c = Model::new(&[(patient, 1), (patient, 1), (patient, 1)], &[Claim::NotEverybodyRefused]).without_faults().checker().threads(1).spawn_bfs().join();
    println!("patient {:?} {} {:?}", c.discoveries().len(), c.unique_state_count(), t.elapsed());
    for (_, p) in c.discoveries() { println!("{}", Trace(p.into_vec())); }
}
