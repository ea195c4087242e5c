//! Writes results into the documentation, between markers; what is around them is written by people.

use std::fs;
use std::path::Path;

use crate::measures::Measure;
use crate::model::Costs;
use crate::report::Section;
use crate::{goals, plot};

/// Writes the tables of the results in the folder into BENCHMARKS.md and SCALING.md, and the plots beside them.
pub(crate) fn write(docs: &Path, results: &Path) {
    let sections = read(results);
    let pictures = docs.join("benchmarks");
    fs::create_dir_all(&pictures).unwrap();
    sections.iter().flat_map(|section| &section.plots).for_each(|one| plot::draw(one, &pictures));

    let mut measured = String::new();
    for section in sections.iter().filter(|section| section.name != "simulate") {
        measured.push_str(&section.to_markdown());
        for one in &section.plots {
            measured.push_str(&format!("\n![{}](benchmarks/{}.svg)\n", one.title, one.file));
        }
    }
    let benchmarks = docs.join("BENCHMARKS.md");
    let written = fs::read_to_string(&benchmarks).unwrap();
    between(&benchmarks, "goals", &goals::table(&sections, &written));
    between(&benchmarks, "measured", &measured);
    let Some(costs) = Costs::of(&sections) else { return };
    let scaling = docs.join("SCALING.md");
    between(&scaling, "model", &costs.to_markdown());
    if let Some(simulated) = sections.iter().find(|section| section.name == "simulate") {
        between(&scaling, "simulated", &simulated.to_markdown());
    }
}

/// The results that are there, in the order of the measurements.
pub(crate) fn read(results: &Path) -> Vec<Section> {
    let file = |measure: &Measure| fs::read(results.join(format!("{}.json", measure.name()))).ok();
    let section = |bytes: Vec<u8>| serde_json::from_slice(&bytes).expect("a result of this program");
    Measure::ALL.iter().filter_map(file).map(section).collect()
}

/// Replaces what stands between `<!-- begin NAME -->` and `<!-- end NAME -->`.
fn between(page: &Path, name: &str, text: &str) {
    let (begin, end) = (format!("<!-- begin {name} -->"), format!("<!-- end {name} -->"));
    let before = fs::read_to_string(page).unwrap();
    let (head, rest) = before.split_once(&begin).expect("the marker of where the tables begin");
    let (_, tail) = rest.split_once(&end).expect("the marker of where the tables end");
    fs::write(page, format!("{head}{begin}\n{}\n{end}{tail}", text.trim_matches('\n'))).unwrap();
}
