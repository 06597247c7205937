//! The kinds of lives: what each draws for its job and its schedule.

mod keep;
mod log_damage;
mod silence;

use self::{
    keep::keep,
    log_damage::log_damage,
    silence::{half_death, silence},
};
use crate::{
    draw::Draw,
    job::Job,
    plan::Kind,
    schedule::{Damage, Engine, Phase, Schedule, Step, Told, What, When},
};

/// Draws what makes a life of this kind into its job and its schedule.
pub(crate) fn draw(kind: Kind, draw: &mut Draw, job: &mut Job, schedule: &mut Schedule) {
    match kind {
        Kind::Kill9 => schedule.steps = kills(draw, 4),
        Kind::Delivery => delivery(draw, job, schedule),
        Kind::Metadata => metadata(draw, schedule),
        Kind::Stops => stops(draw, job, schedule),
        Kind::Behind => behind(draw, job, schedule),
        Kind::Reboot => reboot(draw, job, schedule),
        Kind::Journal => journal(draw, job, schedule),
        Kind::LogDamage => log_damage(draw, job, schedule),
        Kind::Disk => disk(draw, schedule),
        Kind::Mix => mix(draw, job, schedule),
        Kind::Clock => clock(draw, job, schedule),
        Kind::Silence => silence(draw, job, schedule),
        Kind::Keep => keep(draw, job, schedule),
        Kind::Engine => engine(draw, job, schedule),
    }
}

fn step(when: When, what: What) -> Step {
    Step { when, what }
}

/// Any moment between the agent's start and its end.
fn moment(draw: &mut Draw) -> When {
    match draw.between(0, 9) {
        0 => When::Start(draw.between(0, 40)),
        1 => When::Start(draw.between(0, 2500)),
        2 => When::Phase(Phase::Claimed, draw.between(0, 80)),
        3 => When::Phase(Phase::Created, draw.between(0, 400)),
        4 | 5 => When::Phase(Phase::Running, draw.between(0, 1000)),
        6 => When::Phase(Phase::Exited, draw.between(0, 5)),
        7 => When::Phase(Phase::Delivered, draw.between(0, 100)),
        _ => When::JobEnd(draw.between(0, 250)),
    }
}

fn kill(draw: &mut Draw) -> What {
    What::Kill { pause_ms: draw.pick(&[0, 0, 20, 200, 600]), damage: None }
}

fn fall(draw: &mut Draw) -> What {
    What::Reboot { pause_ms: draw.between(0, 400), orderly: draw.chance(50), damage: None }
}

/// Kills of the agent, some of them soon after it was started again.
fn kills(draw: &mut Draw, most: u64) -> Vec<Step> {
    let mut steps = Vec::new();
    for number in 0..draw.between(1, most) {
        let when = if number > 0 && draw.chance(50) { When::Then(draw.between(0, 500)) } else { moment(draw) };
        steps.push(step(when, kill(draw)));
    }
    steps
}

fn delivery(draw: &mut Draw, job: &mut Job, schedule: &mut Schedule) {
    let mut script = Vec::new();
    // A 429 means a full queue after an answer that was lost, so a scripted one comes before anything that loses answers.
    let rate_limited = draw.chance(25);
    if rate_limited {
        script.push(draw.pick(&["429", "429+retry-after=1", "429*2"]));
    }
    for _ in 0..draw.between(0, 3) {
        script.push(draw.pick(&[
            "503",
            "500",
            "502",
            "503+retry-after=2",
            "401",
            "reset",
            "reset",
            "reset-after",
            "reset-after",
            "truncate",
            "garbage",
            "pass+delay=700ms",
            "302",
            "408",
        ]));
    }
    match draw.between(0, 99) {
        0..=5 => script.push("413"),
        6..=8 => script.push("400"),
        9..=11 => script.push("413,400"),
        12..=15 => script.push(draw.pick(&["404", "410", "405"])),
        16..=18 => script.push("hang"),
        19..=21 => script.push("hang-after"),
        22..=23 => script.push("403"),
        _ => {}
    }
    schedule.callback = script.join(",");
    match draw.between(0, 9) {
        // It loses answers too.
        0..=2 if !rate_limited => {
            // What the script leaves after the pauses have grown would take minutes.
            script.truncate(1);
            schedule.callback = script.concat();
            schedule.steps.push(step(moment(draw), What::CallbackDown));
            schedule.steps.push(step(When::Then(draw.between(100, 5000)), What::CallbackUp));
        }
        3 => schedule.steps.push(step(moment(draw), What::RevokeTokens)),
        4 => schedule.steps.push(step(moment(draw), What::EndExecution)),
        5 => {
            // Down for good: the agent has to give up.
            job.give_up_after_ms = Some(draw.between(1000, 4000));
            schedule.steps.push(step(When::Start(0), What::CallbackDown));
        }
        _ => {}
    }
    if !rate_limited && draw.chance(40) {
        for _ in 0..draw.between(1, 3) {
            schedule.steps.push(step(When::Phase(Phase::Exited, draw.between(0, 1500)), kill(draw)));
        }
    }
}

fn metadata(draw: &mut Draw, schedule: &mut Schedule) {
    for prefix in ["instance/service-accounts/", "instance/attributes/", "instance/", ""] {
        if draw.chance(50) {
            let steps: Vec<&str> = (0..draw.between(1, 3))
                .map(|_| {
                    draw.pick(&[
                        "503",
                        "500*2",
                        "429",
                        "reset",
                        "reset-after",
                        "truncate",
                        "garbage",
                        "pass+delay=600ms",
                        "pass*3",
                    ])
                })
                .collect();
            schedule.metadata.push((prefix, steps.join(",")));
        }
    }
    if draw.chance(7) {
        // Unanswered for the 10 s of a request's deadline.
        schedule.metadata.push(("instance/", "hang".into()));
    }
    if draw.chance(50) {
        schedule.steps.push(step(moment(draw), What::MetadataDown));
        schedule.steps.push(step(When::Then(draw.between(50, 4000)), What::MetadataUp));
    }
    if draw.chance(40) {
        schedule.steps.extend(kills(draw, 2));
    }
}

/// A reason to stop, or to be gone for a moment.
fn stop(draw: &mut Draw) -> What {
    draw.pick(&[
        What::Signal(Told::Term),
        What::Signal(Told::Term),
        What::Signal(Told::Int),
        What::Preempt,
        What::Preempt,
        What::Cancel,
        What::Cancel,
    ])
}

fn stops(draw: &mut Draw, job: &mut Job, schedule: &mut Schedule) {
    job.endless = draw.chance(60) && !job.hog;
    if draw.chance(25) {
        job.timeout_ms = Some(draw.between(200, 2000));
    }
    // An endless job has to be stopped by something that comes for certain.
    let certain = When::Phase(Phase::Claimed, draw.between(0, 1500));
    if !(job.endless && job.timeout_ms.is_some() && draw.chance(50)) {
        // A signal is forgotten if its agent is killed before it could write it down.
        let what = if job.endless { draw.pick(&[What::Preempt, What::Cancel]) } else { stop(draw) };
        let when = if job.endless || draw.chance(50) { certain } else { moment(draw) };
        schedule.steps.push(step(when, what));
    }
    if draw.chance(25) {
        schedule.steps.push(step(When::Then(draw.between(0, 1500)), stop(draw)));
    }
    if draw.chance(35) {
        let when = if draw.chance(60) { When::Then(draw.between(0, 1500)) } else { moment(draw) };
        let what = if draw.chance(60) { kill(draw) } else { What::Hangup { pause_ms: draw.between(0, 500) } };
        schedule.steps.push(step(when, what));
    }
}

fn behind(draw: &mut Draw, job: &mut Job, schedule: &mut Schedule) {
    job.endless = draw.chance(50) && !job.hog;
    let when = match draw.between(0, 9) {
        _ if job.endless => When::Phase(Phase::Running, draw.between(0, 700)),
        0 => When::Phase(Phase::Claimed, draw.between(0, 60)),
        1..=3 => When::Phase(Phase::Created, draw.between(0, 300)),
        4 => When::JobEnd(draw.between(0, 100)),
        _ => When::Phase(Phase::Running, draw.between(0, 700)),
    };
    schedule.steps.push(step(when, draw.pick(&[What::ContainerKill, What::ContainerRemove])));
    match draw.between(0, 4) {
        // The same with nobody looking: the agent is dead while it happens.
        0 | 1 => schedule.steps.insert(0, step(when, What::Kill { pause_ms: draw.between(100, 800), damage: None })),
        2 => schedule.steps.push(step(When::Then(draw.between(0, 200)), kill(draw))),
        _ => {}
    }
}

fn reboot(draw: &mut Draw, job: &mut Job, schedule: &mut Schedule) {
    job.endless = draw.chance(25) && !job.hog;
    let when = if job.endless { When::Phase(Phase::Running, draw.between(0, 700)) } else { moment(draw) };
    schedule.steps.push(step(when, fall(draw)));
    if draw.chance(25) {
        schedule.steps.push(step(When::Then(draw.between(0, 600)), kill(draw)));
    }
    if draw.chance(15) {
        schedule.steps.push(step(When::Then(draw.between(0, 600)), fall(draw)));
    }
    if draw.chance(25) {
        schedule.callback = draw.pick(&["503", "reset-after", "503,reset-after"]).into();
    }
}

fn journal(draw: &mut Draw, job: &mut Job, schedule: &mut Schedule) {
    // Between two attempts there is no container that could stand witness.
    job.retried = false;
    let when = match draw.between(0, 5) {
        0 => When::Phase(Phase::Claimed, draw.between(0, 100)),
        1 => When::Phase(Phase::Created, draw.between(0, 300)),
        2 | 3 => When::Phase(Phase::Running, draw.between(0, 900)),
        4 => When::JobEnd(draw.between(0, 60)),
        _ => When::Phase(Phase::Exited, draw.between(0, 600)),
    };
    if matches!(when, When::Phase(Phase::Exited, _)) {
        schedule.callback = "503*2".into();
    }
    let damage = draw.pick(&[
        Damage::JournalTorn,
        Damage::JournalEmptied,
        Damage::JournalRemoved,
        Damage::LogsTorn,
        Damage::AllRemoved,
    ]);
    // An agent that has forgotten that its report lies in the endpoint's queue gets rid of it only when that is awaited.
    schedule.awaited |= damage != Damage::LogsTorn;
    schedule.steps.push(step(when, What::Kill { pause_ms: draw.between(0, 300), damage: Some(damage) }));
    if draw.chance(30) {
        schedule.steps.push(step(When::Then(draw.between(0, 500)), kill(draw)));
    }
}

fn disk(draw: &mut Draw, schedule: &mut Schedule) {
    // What no disk took note of is unknown to the next agent.
    schedule.rerun = false;
    schedule.disk_kib = Some(draw.between(400, 800));
    schedule.steps.push(step(moment(draw), What::DiskFull));
    if draw.chance(60) {
        schedule.steps.push(step(When::Then(draw.between(100, 3000)), What::DiskRoom));
    }
    if draw.chance(30) {
        schedule.callback = draw.pick(&["503", "reset-after"]).into();
    }
    if draw.chance(30) {
        let when = if draw.chance(50) { When::Then(draw.between(0, 600)) } else { moment(draw) };
        schedule.steps.push(step(when, kill(draw)));
    }
}

/// A bit of everything that a life can have at once and still be judged.
fn mix(draw: &mut Draw, job: &mut Job, schedule: &mut Schedule) {
    if draw.chance(50) {
        delivery(draw, job, schedule);
        // Kept for lives of its own kind: there the agent may take long.
        let quick = schedule.callback.split(',').filter(|step| !step.starts_with("hang") && *step != "403");
        schedule.callback = quick.collect::<Vec<_>>().join(",");
    }
    if draw.chance(50) {
        metadata(draw, schedule);
        schedule.metadata.retain(|(_, script)| script != "hang");
    }
    if draw.chance(40) {
        schedule.steps.push(step(moment(draw), stop(draw)));
    }
    if draw.chance(30) {
        schedule.steps.push(step(moment(draw), draw.pick(&[What::ContainerKill, What::ContainerRemove])));
    }
    if draw.chance(25) {
        schedule.steps.push(step(moment(draw), What::Hangup { pause_ms: draw.between(0, 500) }));
    }
    // A scripted 429 after a try that was cut off would be taken for a full queue.
    if schedule.callback.contains("429") {
        schedule.steps.retain(|step| step.what.restarts().is_none());
        return;
    }
    if draw.chance(25) {
        schedule.steps.push(step(moment(draw), fall(draw)));
    }
    schedule.steps.extend(kills(draw, 3));
}

/// The wall clock jumps, as when the time is first had from the network in the middle of a boot. No deadline may go by it.
fn clock(draw: &mut Draw, job: &mut Job, schedule: &mut Schedule) {
    if draw.chance(60) {
        // Seldom by the right clock, at once by a wrong one.
        job.timeout_ms = Some(draw.between(500, 20_000));
    }
    schedule.callback = draw.pick(&["", "", "503", "503+retry-after=1", "503*3", "401,reset-after"]).into();
    for number in 0..draw.between(1, 3) {
        let when = match draw.between(0, 3) {
            _ if number > 0 => When::Then(draw.between(0, 700)),
            0 => When::Start(0),
            1 => When::Phase(Phase::Created, draw.between(0, 100)),
            _ => moment(draw),
        };
        let off_s = draw.pick(&[-400_000_000, -86_400, -3600, -5, 0, 5, 3600, 86_400, 400_000_000]);
        schedule.steps.push(step(when, What::ClockJump(off_s)));
    }
    if draw.chance(50) {
        schedule.steps.extend(kills(draw, 2));
    }
}

fn engine(draw: &mut Draw, job: &mut Job, schedule: &mut Schedule) {
    schedule.live_restore = draw.chance(50);
    // Without the daemon nobody outside sees what the kernel killed.
    job.hog = false;
    for chunk in &mut job.chunks {
        chunk.rest_ms = chunk.rest_ms * 3 + 200;
    }
    for number in 0..draw.between(1, 2) {
        let when = match draw.between(0, 9) {
            _ if number > 0 => When::Then(draw.between(0, 1500)),
            0..=5 => When::Phase(Phase::Running, draw.between(0, 1500)),
            _ => moment(draw),
        };
        let what = match draw.between(0, 5) {
            0 | 1 => What::Engine(Engine::Restart(draw.between(0, 2000))),
            2 | 3 => What::Engine(Engine::Crash(draw.between(0, 2000))),
            4 => What::Engine(Engine::Freeze(draw.between(200, 4000))),
            _ => What::Silence(half_death(draw)),
        };
        schedule.rerun |= matches!(what, What::Silence(_));
        schedule.steps.push(step(when, what));
    }
    match draw.between(0, 9) {
        0..=2 => schedule.steps.push(step(When::Then(draw.between(0, 1000)), kill(draw))),
        // Nobody is there to see what becomes of the job.
        3..=5 => {
            let when = When::Phase(Phase::Running, draw.between(0, 1000));
            let pause_ms = draw.between(500, 6000);
            schedule.steps.insert(0, step(when, What::Kill { pause_ms, damage: None }));
        }
        _ => {}
    }
}
