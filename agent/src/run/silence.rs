//! What the engine leaves unanswered about the running job: since when, and what it said last. It is evidence where the job's end
//! stays unconfirmed; in the log it is told once, and then ever more seldom.

use std::time::Duration;

use tokio::time::Instant;
use tracing::warn;

use crate::runtime::EngineError;

/// Between two lines in the log about the same trouble: at first, and at most.
const FIRST_PAUSE: Duration = Duration::from_mins(1);
const LONGEST_PAUSE: Duration = Duration::from_hours(1);

#[derive(Default)]
pub(super) struct Silence {
    since: Option<Instant>,
    error: Option<EngineError>,
    /// When it is told again, and how long it is not after that.
    told: Option<(Instant, Duration)>,
    /// Whether the job may run on though its attempt is over: another is not begun beside it.
    pub(super) job_may_run: bool,
}

impl Silence {
    /// The engine is being reached; true where nothing was unanswered before.
    pub(super) fn begin(&mut self) -> bool {
        let is_first = self.since.is_none();
        if is_first {
            self.since = Some(Instant::now());
            self.error = None;
        }
        is_first
    }

    /// Something about the job was asked in vain.
    pub(super) fn note(&mut self, what: &str, error: &EngineError) {
        if self.is_new(Instant::now(), error) {
            warn!("{what}: {error}");
        }
    }

    /// Takes note of it, and says whether it is to be told.
    fn is_new(&mut self, now: Instant, error: &EngineError) -> bool {
        // The question was there before it was late.
        let waited = if let EngineError::Late { deadline, .. } = error { *deadline } else { Duration::ZERO };
        self.since.get_or_insert(now.checked_sub(waited).unwrap_or(now));
        self.error = Some(error.clone());
        let pause = match self.told {
            Some((again_at, _)) if now < again_at => return false,
            Some((_, pause)) => (pause * 2).min(LONGEST_PAUSE),
            None => FIRST_PAUSE,
        };
        self.told = Some((now + pause, pause));
        true
    }

    /// It was answered.
    pub(super) fn end(&mut self) {
        *self = Self::default();
    }

    pub(super) fn lasts(&self) -> Duration {
        self.since.map_or(Duration::ZERO, |since| since.elapsed())
    }

    /// What it said last, or how it did not answer.
    pub(super) fn error(&self) -> EngineError {
        self.error.clone().unwrap_or_else(|| EngineError::Unreachable("it could not be reached".into()))
    }

    /// In a sentence; `who` is asked.
    pub(super) fn evidence(&self, who: &str) -> String {
        if self.since.is_none() {
            return format!("{who} did not say how the job ended");
        }
        let error = self.error.as_ref().map_or_else(|| "it could not be reached".into(), EngineError::to_string);
        format!("{who} did not answer about the job for the last {} s: {error}", self.lasts().as_secs())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_silence_lasts_from_the_first_question_to_an_answer() {
        let late = EngineError::Late { call: "inspect", deadline: Duration::from_secs(75) };
        let mut silence = Silence::default();
        assert!(silence.begin() && !silence.begin());
        assert!(silence.evidence("the engine").ends_with("for the last 0 s: it could not be reached"));
        silence.end();
        silence.is_new(Instant::now(), &late);
        silence.is_new(Instant::now(), &EngineError::Unreachable("gone".into()));
        assert_eq!(silence.lasts().as_secs(), 75);
        assert!(silence.evidence("the engine").ends_with("75 s: failed to reach the engine: gone"));
        silence.end();
        assert_eq!(silence.lasts(), Duration::ZERO);
    }

    #[test]
    fn the_same_trouble_is_told_ever_more_seldom() {
        let (mut silence, began) = (Silence::default(), Instant::now());
        let mut is_new = |s| silence.is_new(began + Duration::from_secs(s), &EngineError::Failed("trouble".into()));
        let told: Vec<u64> = (0..36_000).filter(|s| is_new(*s)).collect();
        assert_eq!(told[..4], [0, 60, 180, 420]);
        assert!(told.len() < 20 && told.windows(2).all(|two| two[1] - two[0] <= 3600), "{told:?}");
    }
}
