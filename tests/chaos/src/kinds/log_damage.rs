//! A job that writes on and on, and harm to the engine's file of its log: mostly while no agent reads it.

use super::{kill, step};
use crate::{
    draw::Draw,
    job::{Chunk, FIRST_LINE, Job},
    schedule::{Damage, LogDamage, Phase, Schedule, What, When},
};

fn damage(draw: &mut Draw) -> LogDamage {
    let percent = draw.between(0, 99);
    let count = draw.pick(&[1, 100, 512, 4096, 20_000]);
    draw.pick(&[
        LogDamage::Cut(percent),
        LogDamage::Cut(percent),
        LogDamage::CutWithin(percent),
        LogDamage::CutWithin(99),
        LogDamage::Emptied,
        LogDamage::ZerosBehind(count),
        LogDamage::ZerosOver { percent, count },
        LogDamage::ZerosOver { percent: 95, count: usize::MAX },
        LogDamage::Torn(percent),
    ])
}

pub(super) fn log_damage(draw: &mut Draw, job: &mut Job, schedule: &mut Schedule) {
    (job.hog, job.retried, job.numbered_from, job.log_driver) = (false, false, Some(FIRST_LINE), "json-file");
    // How much of a damaged file was the job's can be told where its lines are of one length.
    let line_bytes = draw.pick(&[20, 20, 90, 3_000]);
    job.chunks = (0..draw.between(3, 8))
        .map(|_| {
            let most_lines = draw.pick(&[3, 200, 60_000 / line_bytes]);
            Chunk {
                stderr: draw.chance(30),
                lines: draw.between(1, most_lines),
                line_bytes,
                unfinished: false,
                rest_ms: draw.pick(&[50, 200, 400, 700]),
            }
        })
        .collect();
    let when = |draw: &mut Draw| match draw.between(0, 5) {
        0 => When::Phase(Phase::Running, draw.between(0, 100)),
        1 => When::JobEnd(draw.between(0, 60)),
        _ => When::Phase(Phase::Running, draw.between(100, 3000)),
    };
    let mut when = when(draw);
    for _ in 0..draw.between(1, 2) {
        let damage = damage(draw);
        let what = match draw.between(0, 9) {
            0..=5 => What::Kill { pause_ms: draw.between(0, 2500), damage: Some(Damage::Log(damage)) },
            6 | 7 => What::Reboot {
                pause_ms: draw.between(0, 400),
                orderly: draw.chance(50),
                damage: Some(Damage::Log(damage)),
            },
            _ => What::HarmLog(damage),
        };
        schedule.steps.push(step(when, what));
        when = When::Then(draw.between(0, 1500));
    }
    if draw.chance(30) {
        schedule.steps.push(step(when, kill(draw)));
    }
}
