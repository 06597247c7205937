//! An engine that half dies, and a job that ends or is to end meanwhile.

use super::{kill, step};
use crate::{
    draw::Draw,
    job::{Chunk, Job},
    schedule::{Phase, Schedule, Silence, What, When},
};

/// Shorter than the agent waits for an engine, about as long, and longer.
const SILENCES_MS: [u64; 5] = [3_000, 12_000, 25_000, 45_000, 60_000];

pub(super) fn half_death(draw: &mut Draw) -> Silence {
    let ms = draw.pick(&SILENCES_MS);
    match draw.between(0, 3) {
        0 | 1 => Silence::Shim(ms),
        2 => Silence::Deaf(ms),
        _ => Silence::Slow { by_ms: draw.pick(&[1_500, 6_000, 40_000]), ms },
    }
}

/// The engine half dies, and the job ends, or is to.
pub(super) fn silence(draw: &mut Draw, job: &mut Job, schedule: &mut Schedule) {
    // What could not be removed is the next run's to remove.
    schedule.rerun = true;
    (job.hog, job.retried) = (false, false);
    job.endless = draw.chance(60);
    if draw.chance(25) {
        job.log_driver = "syslog";
        // More than the sockets hold.
        job.chunks = vec![Chunk { stderr: false, lines: 80_000, line_bytes: 100, unfinished: false, rest_ms: 0 }];
    } else {
        let when = When::Phase(Phase::Running, draw.between(0, 600));
        schedule.steps.push(step(when, What::Silence(half_death(draw))));
    }
    if job.endless {
        match draw.between(0, 3) {
            0 | 1 => job.timeout_ms = Some(draw.between(1500, 5000)),
            2 => schedule.steps.push(step(When::Phase(Phase::Running, draw.between(200, 3000)), What::Cancel)),
            _ => schedule.steps.push(step(When::Phase(Phase::Running, draw.between(200, 3000)), What::Preempt)),
        }
    } else if let Some(last) = job.chunks.last_mut() {
        last.rest_ms += 1000;
    }
    if draw.chance(30) {
        schedule.steps.push(step(When::Phase(Phase::Running, draw.between(500, 12_000)), kill(draw)));
    }
}
