//! The picture of a run: one page with everything in it, that opens from a file and asks no network.

use std::path::Path;

use crate::recording::{Broken, Recorder};
use crate::report::Outcome;

const PAGE: &str = include_str!("picture/page.html");
const STYLE: &str = include_str!("picture/style.css");
const SCRIPTS: [&str; 4] = [
    include_str!("picture/model.js"),
    include_str!("picture/draw.js"),
    include_str!("picture/log.js"),
    include_str!("picture/page.js"),
];

/// Completes a recording once its run is over.
pub fn complete(recorder: &Recorder, outcome: &Outcome) {
    let mut recording = recorder.borrow_mut();
    recording.name = outcome.name.clone();
    recording.replay = outcome.replay();
    let broken = outcome.failure.as_ref().map(|failure| Broken {
        label: failure.violation.label.to_string(),
        text: failure.violation.text.clone(),
        at: failure.at_us,
        event: failure.event,
    });
    recording.complete(outcome.stats.simulated_us, broken);
}

/// The page of a completed recording.
///
/// # Errors
/// When the recording can't be written as JSON.
pub fn page(recorder: &Recorder) -> Result<String, serde_json::Error> {
    let data = serde_json::to_string(&*recorder.borrow())?;
    // An id or a text may hold anything: nothing in it may end the element that it stands in.
    let data = data.replace('<', "\\u003c");
    let parts = [("/*style*/", STYLE.to_owned()), ("/*scripts*/", SCRIPTS.concat())];
    let page = parts.iter().fold(PAGE.to_owned(), |page, (at, part)| page.replacen(at, part, 1));
    Ok(page.replacen("/*run*/", &data, 1))
}

/// Writes the page of a completed recording to a file.
///
/// # Errors
/// Says which file could not be written, and why.
pub fn write(recorder: &Recorder, file: &Path) -> Result<(), String> {
    let page = page(recorder).map_err(|why| format!("the run can't be told as JSON: {why}"))?;
    std::fs::write(file, page).map_err(|why| format!("{} can't be written: {why}", file.display()))
}

#[cfg(test)]
mod tests {
    use crate::swarm::{What, run, run_recorded};
    use crate::trace::Trace;

    #[test]
    fn a_run_that_is_recorded_is_the_run_that_is_not() {
        let plain = run(&What::Swarm, 7, Trace::new(false), None);
        let (outcome, recorder) = run_recorded(&What::Swarm, 7, Trace::new(false), None);
        assert_eq!((plain.hash, plain.stats), (outcome.hash, outcome.stats));
        let page = super::page(&recorder.expect("it was recorded")).expect("it is JSON");
        assert!(page.len() > 100_000 && !page.contains("/*run*/"));
    }

    #[test]
    fn nothing_in_a_run_can_end_the_element_that_holds_it() {
        let (_, recorder) = run_recorded(&What::Swarm, 7, Trace::new(false), Some(50));
        let recorder = recorder.expect("it was recorded");
        recorder.borrow_mut().line(1, 1, "</script><b>");
        let page = super::page(&recorder).expect("it is JSON");
        assert!(page.contains(r"\u003c/script>\u003cb>") || page.contains(r"\u003c/script"));
        assert!(!page.contains("</script><b>"));
    }
}
