//! What an answer of the callback endpoint means: contract, design 2.5.

use hyper::StatusCode;

/// What to do after an answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Verdict {
    /// The endpoint has the report.
    Delivered,
    /// Try the same bytes again. The text says what a person could do about it meanwhile, if anything.
    Retry(Option<&'static str>),
    /// As `Retry`, but not soon.
    RetrySlowly(&'static str),
    /// Once more with the log texts dropped, then stop.
    Shrink,
    /// It will never be taken; the text says why.
    Stop(&'static str),
}

/// `unanswered`: an earlier try's answer never came, so the endpoint may hold that one.
pub(super) fn judge(status: StatusCode, unanswered: bool) -> Verdict {
    match status.as_u16() {
        200..300 => Verdict::Delivered,
        429 if unanswered => Verdict::Delivered,
        // The next try fetches its token anew anyway.
        401 => Verdict::Retry(Some("the token was refused; a fresh one is used at the next try")),
        403 => Verdict::RetrySlowly(
            "the VM's service account needs the permission `workflows.callbacks.send` (a role of its own, or \
             `roles/workflows.invoker`), and the VM the scope `cloud-platform`; IAM takes minutes to spread",
        ),
        404 | 410 => Verdict::Stop("the workflow execution is over: nobody waits for the report any more"),
        405 => Verdict::Stop(
            "the callback endpoint was made for another method: create it with `http_callback_method: POST`",
        ),
        400 | 413 => Verdict::Shrink,
        _ => Verdict::Retry(None),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_table_of_answers_holds() {
        let status = |code| StatusCode::from_u16(code).unwrap();
        for code in [200, 201, 204, 299] {
            assert_eq!(judge(status(code), false), Verdict::Delivered, "{code}");
        }
        for code in [302, 408, 429, 500, 502, 503, 504, 599] {
            assert_eq!(judge(status(code), false), Verdict::Retry(None), "{code}");
        }
        assert_eq!(judge(status(429), true), Verdict::Delivered);
        assert_eq!(judge(status(503), true), Verdict::Retry(None));
        assert!(matches!(judge(status(401), false), Verdict::Retry(Some(_))));
        assert!(
            matches!(judge(status(403), false), Verdict::RetrySlowly(why) if why.contains("workflows.callbacks.send"))
        );
        for code in [404, 410, 405] {
            assert!(matches!(judge(status(code), true), Verdict::Stop(_)), "{code}");
        }
        for code in [400, 413] {
            assert_eq!(judge(status(code), false), Verdict::Shrink, "{code}");
        }
    }
}
