//! A night's summary as one page without scripts, for a browser or a mail.

use super::Night;
use super::part::Part;

const STYLE: &str = "body{font:16px/1.5 system-ui,sans-serif;margin:2rem auto;max-width:70rem;padding:0 1rem}\
table{border-collapse:collapse;width:100%}td,th{text-align:left;padding:.3rem .6rem;border-bottom:1px solid #8884;vertical-align:top}\
.ok{color:#18794e}.failed{color:#c62a2f;font-weight:600}pre{white-space:pre-wrap;background:#8881;padding:.6rem}\
td.n{text-align:right;font-variant-numeric:tabular-nums}:root{color-scheme:light dark}";

pub fn page(night: &Night) -> String {
    let verdict = verdict(night.passed);
    let mut body = format!(
        "<h1>Nightly: {verdict}</h1><p>{} hours asked for, seeds from {}.</p><table><tr><th>part<th><th>seconds<th>command",
        night.hours, night.first_seed
    );
    for part in &night.parts {
        body.push_str(&format!(
            "<tr><td><a href=\"#{0}\">{0}</a><td>{1}<td class=n>{2:.0}<td><code>{3}</code>",
            escaped(&part.name),
            self::verdict(part.passed),
            part.seconds,
            escaped(&part.command)
        ));
    }
    body.push_str("</table>");
    night.parts.iter().for_each(|part| body.push_str(&section(part)));
    format!(
        "<!doctype html><html lang=en><meta charset=utf-8><title>Sheaf, nightly</title><style>{STYLE}</style>{body}</html>\n"
    )
}

fn section(part: &Part) -> String {
    let mut text =
        format!("<h2 id=\"{0}\">{0} {1}</h2>", escaped(&part.name), verdict(part.passed));
    for finding in &part.findings {
        text.push_str(&format!("<pre class=failed>{}</pre>", escaped(finding)));
    }
    if !part.figures.is_empty() {
        let rows = part.figures.iter().map(|(name, figure)| {
            format!("<tr><td>{}<td class=n>{}", escaped(name), escaped(&figure.to_string()))
        });
        text.push_str(&format!("<table>{}</table>", rows.collect::<String>()));
    }
    text
}

fn verdict(passed: bool) -> &'static str {
    if passed { "<span class=ok>ok</span>" } else { "<span class=failed>FAILED</span>" }
}

fn escaped(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('"', "&quot;")
}
