//! Numbers as bars: the cases of a benchmark, one group of bars each, as an SVG.

use std::fmt::Write;

use serde_json::Value;

const BAR: u32 = 18;
const LEFT: u32 = 230;
const WIDTH: u32 = 460;

/// Draws `field` of every client in every case; a group's longest bar is as wide as the plot.
pub(crate) fn draw(title: &str, cases: &[Value], field: &str) -> String {
    let mut body = format!("<text x=\"10\" y=\"24\" font-size=\"16\">{title}</text>\n");
    let mut y = 50;
    for case in cases {
        let _ = writeln!(body, "<text x=\"10\" y=\"{y}\" font-weight=\"bold\">{}</text>", text(&case["case"]));
        y += 8;
        let clients = case["clients"].as_array().map_or(&[][..], Vec::as_slice);
        let shown: Vec<&Value> = clients.iter().filter(|client| !client["bytes_lost"].is_null()).collect();
        let largest = shown.iter().filter_map(|client| client[field].as_f64()).fold(0.01, f64::max);
        for client in shown {
            let number = client[field].as_f64().unwrap_or_default();
            let name = text(&client["client"]);
            let colour = if name.starts_with("the agent") { "#1a73e8" } else { "#9aa0a6" };
            let width = number / largest * f64::from(WIDTH);
            let (middle, end) = (y + BAR - 5, f64::from(LEFT) + width + 6.0);
            let _ = writeln!(
                body,
                "<text x=\"{}\" y=\"{middle}\" text-anchor=\"end\">{name}</text>\
                 <rect x=\"{LEFT}\" y=\"{y}\" width=\"{width:.1}\" height=\"{}\" fill=\"{colour}\"/>\
                 <text x=\"{end:.1}\" y=\"{middle}\">{number:.2}</text>",
                LEFT - 8,
                BAR - 4
            );
            y += BAR;
        }
        y += 30;
    }
    format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"{}\" height=\"{y}\" font-family=\"sans-serif\" font-size=\"12\">\n\
         <rect width=\"100%\" height=\"100%\" fill=\"white\"/>\n{body}</svg>\n",
        LEFT + WIDTH + 70
    )
}

fn text(value: &Value) -> String {
    value.as_str().unwrap_or_default().replace('&', "&amp;").replace('<', "&lt;")
}
