//! A job that fails and is kept for a while (`keep-on-failure`), or whose exit code is a success of its own; the agent dies, is
//! told to go, or the VM falls meanwhile.

use super::{fall, kill, moment, step};
use crate::{
    draw::Draw,
    job::Job,
    schedule::{Phase, Schedule, Told, What, When},
};

const SUCCESSES: [&[i64]; 4] = [&[], &[3], &[1, 75, 143], &[255]];

pub(super) fn keep(draw: &mut Draw, job: &mut Job, schedule: &mut Schedule) {
    job.success_exit_codes = draw.pick(&SUCCESSES);
    job.exit_code = draw.pick(&[0, 1, 3, 3, 75, 143, 255]);
    job.retried &= job.exit_code != 0;
    job.keep_ms = Some(draw.between(500, 6000));
    schedule.callback = draw.pick(&["", "", "503", "reset-after", "503+retry-after=1"]).into();
    for number in 0..draw.between(0, 3) {
        let when = match draw.between(0, 3) {
            _ if number > 0 => When::Then(draw.between(0, 1500)),
            0 => moment(draw),
            _ => When::Phase(Phase::Delivered, draw.between(0, 3000)),
        };
        let what = match draw.between(0, 9) {
            0..=4 => kill(draw),
            5 | 6 => fall(draw),
            7 => What::Hangup { pause_ms: draw.between(0, 500) },
            8 => What::Cancel,
            _ => What::Signal(Told::Term),
        };
        schedule.steps.push(step(when, what));
    }
}
