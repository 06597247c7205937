//! The words of failure lines, and where in a line they have to stand to mean a failure.

/// Words of one kind.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Group {
    /// 3 names a crash, 2 an error, 1 a hint.
    pub(crate) weight: u8,
    pub(crate) place: Place,
    pub(crate) goes_on: GoesOn,
    /// With a `|` between them: so many texts of their own would take more room in the binary than all their letters.
    signs: &'static str,
}

impl Group {
    pub(crate) fn signs(&self) -> impl Iterator<Item = &'static str> {
        self.signs.split('|')
    }
}

/// Which of the lines that follow belong to a sign.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum GoesOn {
    No,
    /// Those that are indented or empty, as a stack trace is.
    Indented,
    /// And then one more, which says what is wrong, and what is indented behind it.
    AndOne,
}

/// Where a sign counts. A clause begins after a prefix such as `tar: ` or `[main] `, and ends before `: `, `, ` or the line's end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Place {
    Anywhere,
    /// Where it begins or ends a clause.
    Edge,
    /// The same, and nowhere else: in the middle of a clause such a word is another's adjective.
    EdgeOnly,
    /// Where it begins a clause.
    Start,
    /// The same, and it is perhaps a hint unless the line names a thing: it may be the beginning of a title.
    Adjective,
    /// Where it ends a clause.
    End,
    /// After a short subject, as in `x is not defined`.
    Predicate,
    /// Where it begins a clause, and what follows is no error or the like.
    None,
    /// Where a number follows that is not 0, as in `exit code 3`.
    Number,
    /// Where a status of HTTP follows that is an error's.
    Http,
    /// `error`, as a label, a level, a class's end, a count.
    Error,
    Fatal,
    Exception,
    Failed,
    /// ` found` and the like, in a clause that begins with `no` or says `not`.
    Found,
    /// ` line `, as shells and Perl tell where they are.
    Line,
}

const fn group(weight: u8, place: Place, signs: &'static str) -> Group {
    Group { weight, place, goes_on: GoesOn::No, signs }
}

const fn trace(weight: u8, place: Place, goes_on: GoesOn, signs: &'static str) -> Group {
    Group { weight, place, goes_on, signs }
}

/// A sign has five bytes or more. One of small letters stands for capitals too; one with a capital, for itself alone. A `\n` at
/// its beginning stands for the log's beginning too.
#[rustfmt::skip]
pub(crate) static GROUPS: [Group; 28] = [
    trace(3, Place::Anywhere, GoesOn::AndOne, "Traceback (most recent call last)|panicked at"),
    trace(3, Place::Start, GoesOn::AndOne, "panic: "),
    trace(3, Place::Start, GoesOn::Indented, "exception in thread|caused by:|uncaught |unhandled |libc++abi"),
    trace(3, Place::Anywhere, GoesOn::Indented, "terminate called |smashing detected|buffer overflow detected|Sanitizer:|r [ERR_"),
    trace(2, Place::Start, GoesOn::Indented, "error in |guru meditation|backtrace:|stack trace:"),
    trace(2, Place::Exception, GoesOn::Indented, "Exception|exception:|exception exit|exception error"),
    group(3, Place::Anywhere, concat!(
        "(core dumped)|core dumped|free(): |loc(): |munmap_chunk()|malloc_consolidate|OutOfMemory|MPI_ABORT|",
        "MPI_Abort|pure virtual method|oom-kill|oom_kill event|init terminating|kernel panic|symbol lookup error|",
        "error while loading shared libraries|heap out of memory|fallen off the bus|blocked for more than|",
        "overflowed its stack|compiler error:|OOM Killed",
    )),
    group(3, Place::Edge, concat!(
        "SIGSEGV|SIGQUIT|SIGABRT|insufficient memory|segmentation fault|segfault|SIGBUS|SIGKILL|caught signal|",
        "illegal instruction|floating point exception|out of memory|oom killed|cannot allocate memory|",
        "no space left on device|stack overflow|double free or corruption|Assertion |assertion failed|",
        "check failed|bad termination|Kernel panic|emerg]",
    )),
    group(3, Place::Fatal, concat!(
        "fatal:|fatal error|\nfatal | fatal |[fatal|fatal]|fatal\t|fatal\"|critical|[crit]|[alert]|level=fatal|",
        "\"level\":60|panic\"",
    )),
    group(2, Place::Error, concat!(
        "error:|\nerror | error |[error |error]|error[|error\"|error)|error(|error=|error/|error,|error.|error!|",
        "error\n|error\t|error>| errors|\nerrors|level=error|\"level\":50|severe:|[error",
    )),
    group(2, Place::Failed, " failed|\nfailed|\"failed|[failed|:failed|failure|failing"),
    group(2, Place::Anywhere, concat!(
        "went wrong|should never|never happen|[ABORT]|DATA RACE|npm ERR!|npm error|.  Stop.|BUILD FAIL|",
        "not syncing|Xid (PCI|FAILED TO |HAS CHANGED!|ERR_PNPM|No module named|[rejected]|UNREACHABLE!|",
        "Unhandled exception|execution halted|<<loop>>|job killed|status=1/FAILURE",
    )),
    group(2, Place::Edge, concat!(
        "syntax error|unbound variable|undefined reference|multiple definition of|exec format error|",
        "invalid pointer|Killed|Aborted|Bus error|aborted!",
    )),
    // What strerror says, and the engines, name servers and TLS libraries beside it.
    group(1, Place::Edge, concat!(
        "such file or directory|permission denied|connection refused|connection reset|connection timed out|",
        "connection closed|connection lost|reset by peer|timed out|Read timed out|temporarily unavailable|",
        "operation not permitted|operation not supported|device or resource busy|input/output error|file exists|",
        "is a directory|not a directory|argument list too long|too many open files|file name too long|",
        "read-only file system|quota exceeded|broken pipe|bad file descriptor|bad address|bad interpreter|",
        "bad substitution|bad request|bad gateway|bad option|bad magic|bad record|: bad |) bad |",
        "address already in use|already in use|already exists|name or service not known|name resolution|",
        "is unreachable|unreachable|no route to host|no such |text file busy|invalid argument|stale file handle|",
        "transport endpoint|invalid cross-device|numerical result out of range|division by zero|divide by zero|",
        "deadlock|deadline exceeded|nil pointer|null pointer|end of file|access denied|unauthorized|forbidden|",
        "too many requests|service unavailable|gateway timeout|internal server error|certificate|not enough |",
        " is nan|undefined symbol|no listener|unknown error|unexpectedly|empty list|host key verification",
    )),
    // Words that say no at an edge of a clause.
    group(1, Place::EdgeOnly, concat!(
        "aborted|aborting|abort: |missing|unsupported|unresolved|unrecognized|unrecognised|undefined|undeclared|",
        "unexpected|unterminated|unmatched|insufficient|unsatisfied|out of range|out of bounds|out of disk|",
        "out of space|lost connection|timeout|unparsed|unmet dep|unmet peer|unclosed|unbalanced|unpaired|",
        "unresponsive|untrusted|interrupted|abnormal|prematurely|rate limit|cycle detected|iterations reached|",
        "bad_alloc|unhashable|_EXCEEDED|_EXHAUSTED|_FAILED|_DENIED|NOT_FOUND|_UNAVAILABLE|_PRECONDITION|",
        "INVALID_ARGUMENT|protection fault|access fault",
    )),
    // And at its end.
    group(1, Place::End, concat!(
        " denied|refused|rejected|expired| killed|\nkilled|terminated|cancelled|canceled|crashed|corrupt|",
        "corrupted|truncated|malformed|mismatch|mismatched|unavailable|unsatisfiable|incompatible|exhausted|",
        "exceeded|overflow|underflow|disconnected|too large|too small|too long|too old|too low|too high|too open|",
        "too short|conflict|inconsistent|inconsistency|violation|not permitted|not allowed|exclusively locked|",
        "incorrect|incomplete|inaccessible|unreadable|unhealthy|unusable|uninitialized|unspecified|nonexistent|",
        "non-existent|prohibited|disallowed|revoked|damaged| broken|misconfigured|panicked| halted|stalled|",
        "gone away|required|impossible|not running|not ready|not responding|not connected|not mounted|not exist|",
        "not match|not valid|limit reached|over quota|does not work|invalid|is absent|singular|declined|",
        "device busy|resource busy|diverged|exploded|violated|preempted|throttled|improperly|exception|is locked|",
        "is empty|contract violation",
    )),
    group(1, Place::Start, concat!(
        "cannot |can not |\ncan't |: can't |can’t |could not |couldn't |couldn’t |unable to |did not |didn't |",
        "too many |too few |attempt to |giving up|gave up|nothing provides|not in gzip|died at |exiting|quitting|",
        "stopped: |non-exhaustive|lost executor|lost task|crash report|crash detected|stack traceback|",
        "only garbage|empty reply|usage error|extra operand|multi-character|non-integer|non-numeric|end of |",
        "execution failed|toomanyrequests|bailing out|premature |must be |must have |must specify|must provide|",
        "you must |you do not |please |refusing to |expected |expecting |\nsorry, |\nsorry. |: sorry|",
        "did you mean|did you forget|perhaps you meant|erroneous |\nnot |: not |game over|you need |\nrequires |",
        "\nusage: |terminating connection|terminating due|nan detected|\nempty |: empty ",
    )),
    // What there is none of.
    group(1, Place::None, concat!(
        "no access|no active|no app |no artifact|no available|no backend|no basic auth|no candidate|no capable|",
        "no checkpoint|no child|no command|no compatible|no config|no connection|no container|no credential|",
        "no data |no dataset|no database|no default|no device|no disk|no display|no element|no entry|",
        "no environment|no feasible|no files|no free |no function|no handler|no host |no image|no implementation|",
        "no input|no output|no package|no required|no interpreter|no kernel|no key |no license|no listen|",
        "no locks|no manifest|no matching|no measurement|no medium|no member|no method|no model|no module|",
        "no mount point|no name |no nodes|no object|no partition|no permission|no pool|no public key|no room |",
        "no route|no rows |no rule |no samples|no secret|no signature|no solution|no source|no space|no suitable|",
        "no supported|no symbol|no table|no target|no tests |no token|no title|no trace|no urls|no usable|",
        "no user |no valid|no value|no variant|no version|no viable|no volume|no zone",
    )),
    group(1, Place::Adjective, concat!(
        "invalid |illegal |unknown |ambiguous |duplicate |malformed |wrong number|wrong type|wrong size|",
        "wrong format|wrong file|wrong password|wrong arg|wrong version|wrong key|broken |corrupted |",
        "truncated |mismatched |uninitialized |inconsistent |unbound |incompatible |circular |negative |",
        "conflict |conflicting |unsupported |unresolved |relocation |problem with|problems with|bad crc|bad data|",
        "bad file|bad input|bad value|bad header|bad signature|bad config|bad length|bad state",
    )),
    group(1, Place::Predicate, concat!(
        " not | isn't | wasn't | doesn't | doesn’t | didn't | didn’t | hasn't | haven't | aren't | cannot |",
        " can't | couldn't | couldn’t | won't | unable to | was unable| never | no longer | has no | have no |",
        " had no | are no | is no |turned no |tains no |ntain no | found no | got no | must | should be |",
        " is required| are required| requires an argument| is needed| expected | expects | is too | are too |",
        " too many | has expired| is invalid| is denied| was denied| is forbidden| was refused| has failed|",
        " is missing| are missing| is unknown| exceeds | exceeded | can only | could only | only supports |",
        "only available |only supported |only allowed | crashed | has died| have died| is locked| is corrupt|",
        " is full| is down| no such | unknown to | is disabled| no streams| needs to be | need to be |",
        " is undefined| is unbound| is incompatible| are incompatible| failed to | in use| fail to |",
        "already being |already been |already running|already started|already has |already registered|",
        "already defined|already mounted|already taken|already allocated|already initialized| refusing to |",
        " refuses to | refused to | differ| differs| lacks | violates | over its | is stuck| got stuck|but got |",
        ", got |but found |but your |interrupted by| is blocked| was blocked| is closed|closed by remote|",
        "closed connection| hang up| is read-only| insufficient | below minimum| below the | below threshold|",
        " above maximum| above the |is being used|is being accessed| due to error|abnormally| is ambiguous|",
        "to undefined |to undeclared |of undefined |of undeclared | has unbound | differing |different length|",
        "different size|different number|different shape|different type| disagree| is outdated|out of date|",
        " is older than| is newer than|a newer version|on closed | is busy|rolled back|outside the bounds|",
        " has fewer | have fewer | fewer than | is inf|is singular|tains nan|inf or nan|non-zero exit|",
        "nonzero exit| abnormal|unexpected exception|raised exception| is lost| was lost| to HTTPS client",
    )),
    group(1, Place::Number, concat!(
        " on signal | by signal |with signal |exit status|exit code|exitcode|exited with|exits with|return code|",
        "returned code|error code|errno=|exit value|\nsignal: |(signal: |returned 1|\nSTOP |ERROR STOP",
    )),
    group(1, Place::Anywhere, concat!(
        "ECONNRESET|ECONNREFUSED|ENOTFOUND|ETIMEDOUT|EADDRINUSE|EHOSTUNREACH|EAI_AGAIN|ENOSPC:|EACCES:|BackOff|",
        "OOMKilled|LimitExceeded|DeadlineExceeded|QuotaExceeded|ENOENT:",
    )),
    group(1, Place::Http, "status code|response code|with status |\nhttp 4|\nhttp 5|: http |returned http"),
    group(2, Place::Start, "\nBUG: |: BUG: "),
    group(1, Place::Found, concat!(
        " found| available| exists| matches| matched| provided| specified| supplied| remaining| detected|",
        " defined| configured| returned| supported| intersect| accepted| allowed",
    )),
    group(1, Place::Line, " line 1| line 2| line 3| line 4| line 5| line 6| line 7| line 8| line 9"),
    group(2, Place::Anywhere, "SQLSTATE"),
    group(2, Place::Anywhere, concat!(
        "--- FAIL|\nfail: |\ncurl: (|\nFAIL\t|\nFAIL: |\nORA-0|\nORA-1|\nORA-2|skipping incompatible|",
        "job has been aborted|back-off restarting",
    )),
];
