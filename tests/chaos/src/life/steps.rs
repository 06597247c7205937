//! The steps of the schedule: each is carried out once it is due, and written down.

use std::{
    io,
    time::{Duration, Instant, SystemTime},
};

use super::Life;
use crate::{
    diary, docker,
    evidence::Fired,
    job::DIARY,
    schedule::{What, When},
};

impl Life<'_> {
    /// Notes the end of what is done to the engine, whose events are watched anew after it was away.
    pub(super) fn see_trouble_over(&mut self) -> io::Result<()> {
        let Some(done) = self.trouble.try_join_next() else { return Ok(()) };
        done.map_err(io::Error::other)??;
        // There is one at a time.
        let is_trouble = |fired: &&mut Fired| fired.ok && fired.what.is_trouble();
        let Some(trouble) = self.fired.iter_mut().rev().find(is_trouble) else { return Ok(()) };
        trouble.over = Some(SystemTime::now());
        if matches!(trouble.what, What::Engine(_)) {
            self.watcher = docker::watch(&self.names, SystemTime::now(), &self.launch.events())?;
        }
        Ok(())
    }

    pub(super) async fn fire_what_is_due(&mut self) -> io::Result<()> {
        for index in 0..self.done.len() {
            let step = self.plan.schedule.steps[index];
            let absent = step.what.needs_agent() && self.child.is_none();
            let busy = step.what.is_trouble() && !self.trouble.is_empty();
            if self.done[index].is_some() || !self.is_due(index) || absent || busy {
                continue;
            }
            let at = SystemTime::now();
            let ok = self.carry_out(step.what).await?;
            self.done[index] = Some(Instant::now());
            let job_starts = diary::read(&self.launch.dir.join("evidence").join(DIARY)).len();
            self.fired.push(Fired { what: step.what, at, over: None, phase: self.phase(), job_starts, ok });
        }
        Ok(())
    }

    fn is_due(&self, index: usize) -> bool {
        let ms = Duration::from_millis;
        let at = match self.plan.schedule.steps[index].when {
            When::Start(after) => Some(self.began + ms(after)),
            When::Phase(phase, after) => {
                self.seen.iter().find(|(seen, _)| *seen >= phase).map(|(_, at)| *at + ms(after))
            }
            When::JobEnd(after) => self.job_ended.map(|at| at + ms(after)),
            When::Then(after) => index.checked_sub(1).and_then(|before| {
                let pause = self.plan.schedule.steps[before].what.restarts().unwrap_or_default();
                self.done[before].map(|at| at + ms(pause + after))
            }),
        };
        at.is_some_and(|at| Instant::now() >= at)
    }
}
