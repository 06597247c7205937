//! The words of failure lines, and where in a line they have to stand to mean a failure.

/// Words of one kind.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Group {
    /// 3 names a crash, 2 an error, 1 a hint.
    pub(crate) weight: u8,
    pub(crate) place: Place,
    pub(crate) goes_on: GoesOn,
    pub(crate) signs: &'static [&'static str],
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
    /// Where a number follows that is not 0, as in `exit code 3`.
    Number,
    /// `error`, as a label, a level, a class's end, a count.
    Error,
    Fatal,
    Exception,
    Failed,
    /// ` found`, in a clause that begins with `no` or says `not`.
    Found,
    /// ` line `, as shells and Perl tell where they are.
    Line,
}

const fn group(weight: u8, place: Place, signs: &'static [&'static str]) -> Group {
    Group { weight, place, goes_on: GoesOn::No, signs }
}

const fn trace(weight: u8, place: Place, goes_on: GoesOn, signs: &'static [&'static str]) -> Group {
    Group { weight, place, goes_on, signs }
}

/// A sign has six bytes or more. One of small letters stands for capitals too; one with a capital, for itself alone. A `\n` at
/// its beginning stands for the log's beginning too.
#[rustfmt::skip]
pub(crate) static GROUPS: [Group; 24] = [
    trace(3, Place::Anywhere, GoesOn::AndOne, &["Traceback (most recent call last)", "panicked at"]),
    trace(3, Place::Start, GoesOn::AndOne, &["panic: "]),
    trace(3, Place::Start, GoesOn::Indented, &["exception in thread", "caused by:", "uncaught ", "unhandled ", "libc++abi"]),
    trace(3, Place::Anywhere, GoesOn::Indented, &[
        "terminate called ", "smashing detected", "buffer overflow detected", "Sanitizer:", "r [ERR_",
    ]),
    trace(2, Place::Start, GoesOn::Indented, &["error in ", "guru meditation", "backtrace:", "stack trace:"]),
    trace(2, Place::Exception, GoesOn::Indented, &["Exception", "exception:", "exception exit", "exception error"]),
    group(3, Place::Anywhere, &[
        "(core dumped)", "core dumped", "free(): ", "loc(): ", "munmap_chunk()", "malloc_consolidate",
        "OutOfMemory", "MPI_ABORT", "MPI_Abort", "pure virtual method", "oom-kill", "oom_kill event",
        "init terminating", "kernel panic", "symbol lookup error", "error while loading shared libraries",
        "heap out of memory", "fallen off the bus", "blocked for more than", "overflowed its stack",
        "compiler error:", "OOM Killed",
    ]),
    group(3, Place::Edge, &[
        "SIGSEGV", "SIGABRT", "insufficient memory", "segmentation fault", "segfault", "SIGBUS", "SIGKILL",
        "caught signal", "illegal instruction", "floating point exception", "out of memory", "oom killed",
        "cannot allocate memory", "no space left on device", "stack overflow", "double free or corruption",
        "Assertion ", "assertion failed", "check failed", "bad termination", "Kernel panic", "emerg]",
    ]),
    group(3, Place::Fatal, &[
        "fatal:", "fatal error", "\nfatal ", " fatal ", "[fatal", "fatal]", "fatal\t", "fatal\"", "critical",
        "[crit]", "[alert]", "level=fatal", "\"level\":60", "panic\"",
    ]),
    group(2, Place::Error, &[
        "error:", "\nerror ", " error ", "[error ", "error]", "error[", "error\"", "error)", "error(",
        "error=", "error/", "error,", "error.", "error!", "error\n", "error\t", "error>", " errors",
        "\nerrors", "level=error", "\"level\":50", "severe:", "[error",
    ]),
    group(2, Place::Failed, &[" failed", "\nfailed", "\"failed", "[failed", ":failed", "failure", "failing"]),
    group(2, Place::Anywhere, &[
        "npm ERR!", "npm error", ".  Stop.", "BUILD FAIL", "not syncing", "Xid (PCI", "FAILED TO ",
        "HAS CHANGED!", "ERR_PNPM", "No module named", "[rejected]", "UNREACHABLE!", "Unhandled exception",
        "execution halted", "<<loop>>", "job killed", "status=1/FAILURE",
    ]),
    group(2, Place::Edge, &[
        "syntax error", "unbound variable", "undefined reference", "multiple definition of",
        "exec format error", "invalid pointer", "Killed", "Aborted", "Bus error", "aborted!", "signal: ",
    ]),
    // What strerror says, and the engines, name servers and TLS libraries beside it.
    group(1, Place::Edge, &[
        "such file or directory", "permission denied", "connection refused", "connection reset",
        "connection timed out", "connection closed", "connection lost", "reset by peer", "timed out",
        "Read timed out", "temporarily unavailable", "operation not permitted", "operation not supported",
        "device or resource busy", "input/output error", "file exists", "is a directory", "not a directory",
        "argument list too long", "too many open files", "file name too long", "read-only file system",
        "quota exceeded", "broken pipe", "bad file descriptor", "bad address", "bad interpreter",
        "bad substitution", "bad request", "bad gateway", "bad option", "bad magic", "bad record", ": bad ",
        ") bad ", "address already in use", "already in use", "already exists", "name or service not known",
        "name resolution", "is unreachable", "unreachable", "no route to host", "no such ", "text file busy",
        "invalid argument", "stale file handle", "transport endpoint", "invalid cross-device",
        "numerical result out of range", "division by zero", "divide by zero", "deadlock",
        "deadline exceeded", "nil pointer", "null pointer", "end of file", "access denied", "unauthorized",
        "forbidden", "too many requests", "service unavailable", "gateway timeout", "internal server error",
        "certificate", "not enough ", " is nan", "undefined symbol", "no listener", "unknown error",
        "unexpectedly", "empty list", "host key verification",
    ]),
    // Words that say no at an edge of a clause.
    group(1, Place::EdgeOnly, &[
        "aborted", "aborting", "abort: ", "missing", "unsupported", "unresolved", "unrecognized",
        "unrecognised", "undefined", "undeclared", "unexpected", "unterminated", "unmatched", "insufficient",
        "unsatisfied", "out of range", "out of bounds", "out of disk", "lost connection", "timeout",
        "non-zero exit",
    ]),
    // And at its end.
    group(1, Place::End, &[
        " denied", "refused", "rejected", "expired", " killed", "\nkilled", "terminated", "cancelled", "canceled",
        "crashed", "corrupt", "corrupted", "truncated", "malformed", "mismatch", "mismatched", "unavailable",
        "unsatisfiable", "incompatible", "exhausted", "exceeded", "overflow", "underflow", "disconnected",
        "too large", "too small", "too long", "too old", "too low", "too high", "too open", "too short",
        "conflict", "inconsistent", "inconsistency", "violation", "not permitted", "not allowed",
        "exclusively locked", "incorrect", "incomplete", "inaccessible", "unreadable", "unhealthy",
        "unusable", "uninitialized", "unspecified", "nonexistent", "non-existent", "prohibited", "disallowed",
        "revoked", "damaged", " broken", "misconfigured", "panicked", " halted", "stalled", "gone away",
        "required", "impossible", "not running", "not ready", "not responding", "not connected",
        "not mounted", "not exist", "not match", "not valid", "limit reached", "over quota", "does not work",
        "invalid", "is locked", "is empty", "contract violation",
    ]),
    group(1, Place::Start, &[
        "cannot ", "can not ", "\ncan't ", ": can't ", "can’t ", "could not ", "couldn't ", "couldn’t ", "unable to ",
        "did not ", "didn't ", "too many ", "too few ", "attempt to ", "giving up", "gave up", "no space",
        "no public key", "no secret key", "no config", "no mount point", "no tests ran", "nothing provides",
        "not in gzip", "died at ", "exiting", "quitting", "stopping ", "stopped: ", "non-exhaustive",
        "lost executor", "lost task", "crash report", "stack traceback", "only garbage", "empty reply",
        "usage error", "extra operand", "multi-character", "non-integer", "end of ", "execution failed",
        "toomanyrequests", "bailing out", "premature ", "gone away", "must be ", "must specify", "you must ",
        "you need to ", "you do not ", "please run ", "please install", "please specify", "please set ",
        "please provide", "please make sure",
    ]),
    group(1, Place::Adjective, &[
        "invalid ", "illegal ", "unknown ", "ambiguous ", "duplicate ", "malformed ", "wrong number", "wrong type", "wrong size", "required ",
        "maximum ", "conflict ", "conflicting ", "no matching ", "no module", "no package", "no usable",
        "no capable", "no suitable", "no supported", "no available", "no default", "no valid ", "no input",
        "no output", "no solution",  "no license", "no urls ", "no files ", "no method", "no rule ",
        "no required", "unsupported ", "unresolved ", "relocation ", "problem with", "problems with",
    ]),
    group(1, Place::Predicate, &[
        " is not ", " are not ", " was not ", " were not ", " isn't ", " wasn't ", " does not ", " doesn't ",
        " doesn’t ", " did not ", " didn't ", " didn’t ", " has not ", " have not ", " hasn't ", " do not ",
        " cannot ", " can not ", " can't ", " could not ", " couldn't ", " couldn’t ", " unable to ",
        " not able to ", " was unable", " must be ", " must have ", " must not ", " is required",
        " are required", " requires an argument", " is needed", " expected ", " not defined",
        " not specified", " not supported", " not declared", " not set", " not a ", " is too ",
        " has expired", " is invalid", " is denied", " was denied", " is forbidden", " was refused",
        " has failed", " is missing", " is unknown", " exceeds ", " can only ", " only supports ",
        " crashed ", " is locked", " is corrupt", " is full", " is down", " not available", " not installed",
        " not recognized", " not registered", " not allowed", " not trusted", " no such ", " unknown to ",
        " is disabled", " no streams", " needs to be ", " is undefined", " is incompatible",
        " are incompatible", " failed to ", " in use", " fail to ", " already being ", " not used",
        " never used", " not configured",
    ]),
    group(1, Place::Number, &[
        " on signal ", " by signal ", "with signal ", "exit status", "exit code", "exitcode", "exited with",
        "exits with", "return code", "returned code", "error code", "status code", "errno=", 
        "exit value", "returned 1",
    ]),
    group(1, Place::Found, &[" found"]),
    group(1, Place::Line, &[" line 1", " line 2", " line 3", " line 4", " line 5", " line 6", " line 7", " line 8", " line 9"]),
    group(2, Place::Anywhere, &["SQLSTATE"]),
    group(2, Place::Anywhere, &[
        "--- FAIL", "\nfail: ", "\ncurl: (", "\nFAIL\t", "\nFAIL: ", "\nORA-0", "\nORA-1",
        "\nORA-2", "skipping incompatible", "job has been aborted", "back-off restarting",
    ]),
];
