//! What many lives come to: how they ended, how fast reports got out, what broke.

use std::{
    collections::BTreeMap,
    fmt, io,
    time::{Duration, SystemTime},
};

use serde_json::{Value, json};

use crate::{
    evidence::{Evidence, Fired},
    invariants::Broken,
    plan::Plan,
};

/// One life, as far as the summary needs it.
#[derive(Debug)]
pub struct Lived {
    pub kind: &'static str,
    pub replay: String,
    pub cause: String,
    pub processes: usize,
    pub faults: usize,
    pub took: Duration,
    /// From the job's end to the accepted report.
    pub gap: Option<Duration>,
    /// Whether nothing went wrong in that time, so that it is the agent's own.
    pub undisturbed: bool,
    pub broken: Vec<Broken>,
}

impl Lived {
    pub fn new(plan: &Plan, evidence: &Evidence, broken: Vec<Broken>) -> Self {
        let report = evidence.report().unwrap_or_default();
        let attempt = report["job"]["attempt"].as_u64().unwrap_or(1);
        let died = evidence.event(&format!("vmjob-{}-{attempt}", plan.job.id), "die").map(|event| event.at);
        let post = evidence.accepted().next().map(|post| post.wall);
        let cause = match report["cause"].as_str() {
            Some(cause) if post.is_some() => cause.to_owned(),
            Some(cause) => format!("{cause} (undeliverable)"),
            None => "no report".into(),
        };
        Self {
            kind: plan.kind.name(),
            replay: plan.replay(),
            cause,
            processes: evidence.runs.len(),
            faults: evidence.fired.len(),
            took: evidence.began.elapsed().unwrap_or_default(),
            gap: died.zip(post).and_then(|(died, post)| post.duration_since(died).ok()),
            undisturbed: died.zip(post).is_some_and(|(died, post)| is_undisturbed(plan, evidence, died, post)),
            broken,
        }
    }

    /// A life that the machine, not the agent, made impossible.
    pub fn in_vain(plan: &Plan, error: &io::Error) -> Self {
        Self {
            kind: plan.kind.name(),
            replay: plan.replay(),
            cause: "not lived".into(),
            processes: 0,
            faults: 0,
            took: Duration::ZERO,
            gap: None,
            undisturbed: false,
            broken: vec![Broken { invariant: "the life can be lived", how: error.to_string() }],
        }
    }
}

/// One process of the agent saw the job's end and reported it, and nothing was done to anything in between.
fn is_undisturbed(plan: &Plan, evidence: &Evidence, died: SystemTime, post: SystemTime) -> bool {
    let schedule = &plan.schedule;
    let no_script = schedule.callback.is_empty() && schedule.metadata.is_empty() && schedule.disk_kib.is_none();
    let is_over = |fired: &Fired| match fired.over {
        Some(over) => over < died,
        None => !fired.what.is_trouble() && fired.at < died,
    };
    let no_fault = evidence.fired.iter().all(|fired| is_over(fired) || fired.at > post);
    let same_run =
        evidence.runs.iter().any(|run| run.started < died && run.ended.is_none_or(|(ended, _)| ended > post));
    no_script && no_fault && same_run
}

/// All lives together.
#[derive(Debug, Default)]
pub struct Summary {
    pub lives: Vec<Lived>,
    pub took: Duration,
}

impl Summary {
    pub fn broken(&self) -> impl Iterator<Item = &Lived> {
        self.lives.iter().filter(|life| !life.broken.is_empty())
    }

    fn kinds(&self) -> BTreeMap<&str, Vec<&Lived>> {
        let mut kinds: BTreeMap<&str, Vec<&Lived>> = BTreeMap::new();
        for life in &self.lives {
            kinds.entry(life.kind).or_default().push(life);
        }
        kinds
    }

    pub fn to_json(&self) -> Value {
        let kinds: serde_json::Map<String, Value> = self
            .kinds()
            .into_iter()
            .map(|(kind, lives)| {
                let faults: usize = lives.iter().map(|life| life.faults).sum();
                (kind.to_owned(), json!({"lives": lives.len(), "faults": faults, "causes": causes(&lives)}))
            })
            .collect();
        let gaps = self.gaps();
        json!({
            "lives": self.lives.len(),
            "seconds": self.took.as_secs_f64(),
            "faults": self.lives.iter().map(|life| life.faults).sum::<usize>(),
            "agent_processes": self.lives.iter().map(|life| life.processes).sum::<usize>(),
            "kinds": kinds,
            "exit_to_report_ms": {
                "lives": gaps.len(), "p50": percentile(&gaps, 50), "p99": percentile(&gaps, 99), "max": percentile(&gaps, 100),
            },
            "longest_gap_ms": self.longest_gap().map(|(gap, _)| gap),
            "longest_life_s": self.lives.iter().map(|life| life.took.as_secs_f64()).fold(0.0, f64::max),
            "broken": self.broken().map(|life| json!({
                "replay": life.replay,
                "invariants": life.broken.iter().map(|broken| format!("{}: {}", broken.invariant, broken.how)).collect::<Vec<_>>(),
            })).collect::<Vec<_>>(),
        })
    }

    /// Milliseconds from a job's end to its accepted report, sorted, where nothing else went wrong.
    fn gaps(&self) -> Vec<u64> {
        let mut gaps: Vec<u64> =
            self.lives.iter().filter(|life| life.undisturbed).filter_map(|life| Some(millis(life.gap?))).collect();
        gaps.sort_unstable();
        gaps
    }

    fn longest_gap(&self) -> Option<(u64, &Lived)> {
        self.lives.iter().filter_map(|life| Some((millis(life.gap?), life))).max_by_key(|(gap, _)| *gap)
    }
}

impl fmt::Display for Summary {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let sum = |count: fn(&Lived) -> usize| self.lives.iter().map(count).sum::<usize>();
        writeln!(
            f,
            "{} lives in {:.0} s: {} faults, {} processes of the agent",
            self.lives.len(),
            self.took.as_secs_f64(),
            sum(|life| life.faults),
            sum(|life| life.processes)
        )?;
        for (kind, lives) in self.kinds() {
            let causes: Vec<String> =
                causes(&lives).into_iter().map(|(cause, count)| format!("{cause} {count}")).collect();
            writeln!(f, "  {kind:9} {:4} lives: {}", lives.len(), causes.join(", "))?;
        }
        let gaps = self.gaps();
        let show = |percent| percentile(&gaps, percent).map_or_else(|| "-".into(), |ms| format!("{ms} ms"));
        writeln!(
            f,
            "from the job's end to its accepted report, undisturbed ({} lives): p50 {}, p99 {}, max {}",
            gaps.len(),
            show(50),
            show(99),
            show(100)
        )?;
        if let Some((gap, life)) = self.longest_gap() {
            writeln!(f, "the longest such gap of all lives: {gap} ms ({})", life.replay)?;
        }
        let broken: Vec<&Lived> = self.broken().collect();
        for life in &broken {
            for broken in &life.broken {
                writeln!(f, "BROKEN {}: {}   {}", broken.invariant, broken.how, life.replay)?;
            }
        }
        write!(
            f,
            "{}",
            if broken.is_empty() { "all invariants hold".into() } else { format!("{} lives broke", broken.len()) }
        )
    }
}

fn causes(lives: &[&Lived]) -> BTreeMap<String, usize> {
    let mut causes = BTreeMap::new();
    for life in lives {
        *causes.entry(life.cause.clone()).or_default() += 1;
    }
    causes
}

fn millis(duration: Duration) -> u64 {
    duration.as_millis().try_into().unwrap_or(u64::MAX)
}

fn percentile(sorted: &[u64], percent: usize) -> Option<u64> {
    sorted.get((sorted.len() * percent).div_ceil(100).saturating_sub(1)).copied()
}
