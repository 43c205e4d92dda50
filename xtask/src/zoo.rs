//! `cargo xtask zoo`: plants each defect of `sim/zoo` in a copy of the sources and has the simulator find it.
//!
//! A mutant is killed when a checker that its header names fires. Never touches the sources themselves.

mod exhaustive;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};

use anyhow::{Context, bail, ensure};
use clap::Args;

/// Seeds after which a mutant counts as not found. Source: the zoo's rule, docs/SIMULATION.md.
const SEEDS_MAX: u64 = 50_000;
/// Seeds over which a harmless change must stay green.
const HARMLESS_SEEDS: u64 = 2_000;

/// The same for a harness that takes a second for each seed, and for one that takes a tenth.
const TURMOIL_SEEDS_MAX: u64 = 2_000;
const MADSIM_SEEDS_MAX: u64 = 10_000;
/// The mutants that the harness with several coordinators must find, too: what an old leader or a lost answer can do.
const MADSIM_MUTANTS: [&str; 6] = ["18-", "19-", "20-", "21-", "23-", "24-"];

/// Who searches.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Harness {
    Sim,
    Exhaustive,
    /// The one with the real shells: its own workspace, with flags of its own.
    Turmoil,
    /// The one with several coordinators on etcd: again with its own workspace and flags.
    Madsim,
}

impl Harness {
    fn seeds_max(self) -> u64 {
        match self {
            Self::Sim | Self::Exhaustive => SEEDS_MAX,
            Self::Turmoil => TURMOIL_SEEDS_MAX,
            Self::Madsim => MADSIM_SEEDS_MAX,
        }
    }

    /// Whether this mutant is for it.
    fn hunts(self, mutant: &Mutant) -> bool {
        self != Self::Madsim || MADSIM_MUTANTS.iter().any(|begin| mutant.name.starts_with(begin))
    }

    /// Where its mutants are.
    fn folder(self) -> &'static str {
        if self == Self::Turmoil { "sim/zoo/turmoil" } else { "sim/zoo" }
    }

    /// Its package, and the folder and flags with which that is built.
    fn package(self) -> (&'static str, &'static str, &'static str) {
        match self {
            Self::Sim => ("sheaf-sim", ".", "--cap-lints allow"),
            Self::Exhaustive => ("sheaf-model", ".", "--cap-lints allow"),
            Self::Turmoil => {
                ("sheaf-turmoil", "sim/turmoil", "--cfg tokio_unstable --cap-lints allow")
            }
            Self::Madsim => ("sheaf-madsim", "sim/madsim", "--cfg madsim --cap-lints allow"),
        }
    }

    /// Where its builds with a defect go.
    fn target(self, zoo: &Path) -> PathBuf {
        zoo.join(match self {
            Self::Sim | Self::Exhaustive => "build",
            Self::Turmoil => "build-turmoil",
            Self::Madsim => "build-madsim",
        })
    }

    /// What runs it, once it is built.
    fn binary(self, zoo: &Path) -> PathBuf {
        self.target(zoo).join("sim").join(self.package().0)
    }
}

/// Which mutants, and how long.
#[derive(Args)]
pub struct Options {
    /// Only mutants whose names begin so
    #[arg(long, value_name = "NAME")]
    only: Vec<String>,
    /// Seeds after which a mutant counts as not found
    #[arg(long, value_name = "SEEDS", default_value_t = SEEDS_MAX)]
    seeds_max: u64,
    /// Make the plan that kills each as small as possible, and keep it in this folder
    #[arg(long, value_name = "FOLDER")]
    shrink: Option<PathBuf>,
    /// Search all states of a few small clusters instead of drawing seeds
    #[arg(long)]
    exhaustive: bool,
    /// The defects of `sim/zoo/turmoil`, which only the real shells can have, found by the turmoil harness
    #[arg(long, conflicts_with_all = ["exhaustive", "shrink", "pictures"])]
    turmoil: bool,
    /// Those defects that several coordinators on etcd can show, found by the madsim harness
    #[arg(long, conflicts_with_all = ["exhaustive", "turmoil", "shrink", "pictures"])]
    madsim: bool,
    /// The counts, in a file
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
    /// Draw the run in which each mutant was found, as a page in this folder
    #[arg(long, value_name = "FOLDER")]
    pictures: Option<PathBuf>,
}

impl Options {
    /// One mutant, and the picture of the run in which it was found.
    pub fn picture_of(name: &str, folder: &Path) -> Self {
        let (only, pictures) = (vec![name.to_owned()], Some(folder.to_owned()));
        let (exhaustive, turmoil, madsim) = (false, false, false);
        let seeds_max = SEEDS_MAX;
        Self { only, seeds_max, shrink: None, exhaustive, turmoil, madsim, json: None, pictures }
    }

    fn harness(&self) -> Harness {
        match (self.exhaustive, self.turmoil, self.madsim) {
            (true, ..) => Harness::Exhaustive,
            (false, true, _) => Harness::Turmoil,
            (false, false, true) => Harness::Madsim,
            (false, false, false) => Harness::Sim,
        }
    }
}

/// One file of the zoo.
struct Mutant {
    name: String,
    patch: PathBuf,
    /// Numbers of the invariants or promises of which one must fire; none: a harmless change that must stay green.
    fires: Vec<String>,
}

/// What became of a mutant.
struct Fate {
    name: String,
    /// As the simulator told it: which checker, which seed.
    told: String,
    /// Tries until it was found: seeds, or states.
    seeds: u64,
    seconds: f64,
    as_expected: bool,
}

/// Runs the zoo, or those mutants whose names begin with one of `only`.
///
/// # Errors
/// A patch has no header or no longer applies, or a mutant doesn't compile.
pub fn run(root: &Path, options: &Options) -> anyhow::Result<ExitCode> {
    let zoo = root.join("target/zoo");
    let tree = zoo.join("tree");
    copy_sources(root, &tree)?;
    let harness = options.harness();
    let mut fates = Vec::new();
    let mutants = mutants(&root.join(harness.folder()), &options.only)?.into_iter();
    for mutant in mutants.filter(|mutant| harness.hunts(mutant)) {
        apply(&tree, &mutant, &[])?;
        let mut fate = match harness {
            Harness::Exhaustive => exhaustive::hunt(root, &zoo, &mutant),
            _ => hunt(harness, &zoo, &mutant, options.seeds_max.min(harness.seeds_max())),
        };
        if let (Some(folder), Ok(fate)) = (&options.shrink, &mut fate)
            && fate.seeds > 0
            && harness == Harness::Sim
        {
            fate.told.push_str(&shrink(root, &zoo, &mutant, fate.seeds - 1, folder)?);
        }
        apply(&tree, &mutant, &["--reverse"])?;
        let fate = fate?;
        println!("{}", line(&fate));
        if let Some(folder) = &options.pictures {
            draw(root, &zoo, &fate, folder)?;
        }
        fates.push(fate);
    }
    ensure!(!fates.is_empty(), "no mutant has such a name");
    summary(&fates, options.json.as_deref())
}

/// Has the mutant that was built last draw the run in which it was found.
fn draw(root: &Path, zoo: &Path, fate: &Fate, folder: &Path) -> anyhow::Result<()> {
    let Some(seed) = fate.seeds.checked_sub(1) else { return Ok(()) };
    std::fs::create_dir_all(folder)?;
    let file = folder.join(format!("{}.html", fate.name));
    let mut command = Command::new(Harness::Sim.binary(zoo));
    command.current_dir(root).args(["swarm", "--seed", &seed.to_string(), "--html"]).arg(&file);
    // The run fails: that is what it is drawn for.
    command.output()?;
    ensure!(file.exists(), "{} was not drawn", file.display());
    Ok(())
}

fn line(fate: &Fate) -> String {
    let verdict = if fate.as_expected { "ok    " } else { "FAILED" };
    let Fate { name, told, seeds, seconds, .. } = fate;
    format!("{verdict} {name:<46} {seeds:>7} tries {seconds:>6.1} s  {told}")
}

fn summary(fates: &[Fate], json: Option<&Path>) -> anyhow::Result<ExitCode> {
    let mut seeds: Vec<u64> =
        fates.iter().filter(|fate| fate.seeds > 0).map(|fate| fate.seeds).collect();
    seeds.sort_unstable();
    let failed = fates.iter().filter(|fate| !fate.as_expected).count();
    let median = seeds.get(seeds.len() / 2).copied().unwrap_or_default();
    let most = seeds.last().copied().unwrap_or_default();
    println!(
        "zoo: {} mutants, {failed} not as expected; median {median} tries, most {most}",
        fates.len()
    );
    if let Some(file) = json {
        let findings: Vec<String> =
            fates.iter().filter(|fate| !fate.as_expected).map(line).collect();
        let mut figures =
            BTreeMap::from([("mutants", fates.len() as u64), ("median_seeds", median)]);
        figures.extend([("most_seeds", most), ("not_as_expected", failed as u64)]);
        let told = serde_json::json!({ "figures": figures, "findings": findings });
        std::fs::write(file, told.to_string())
            .with_context(|| format!("can't write {}", file.display()))?;
    }
    Ok(if failed == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

fn mutants(folder: &Path, only: &[String]) -> anyhow::Result<Vec<Mutant>> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(folder).with_context(|| format!("{}", folder.display()))? {
        let patch = entry?.path();
        if patch.extension().is_none_or(|extension| extension != "patch") {
            continue;
        }
        let name = patch.file_stem().unwrap_or_default().to_string_lossy().into_owned();
        if !only.is_empty() && !only.iter().any(|wanted| name.starts_with(wanted.as_str())) {
            continue;
        }
        let text = std::fs::read_to_string(&patch)?;
        let fires = text.lines().find_map(|line| line.strip_prefix("# fires: "));
        let fires = fires.with_context(|| format!("{name} doesn't say what it fires"))?;
        let words = fires.split_whitespace().map(str::to_owned);
        found.push(Mutant { name, patch, fires: words.filter(|word| word != "nothing").collect() });
    }
    found.sort_by(|a, b| a.name.cmp(&b.name));
    Ok(found)
}

/// Brings the copy up to date; files that are equal keep their times, so that little is built again.
fn copy_sources(root: &Path, tree: &Path) -> anyhow::Result<()> {
    let listed = Command::new("git").args(["ls-files", "-z"]).current_dir(root).output()?;
    ensure!(listed.status.success(), "git can't list the sources");
    for name in listed.stdout.split(|byte| *byte == 0).filter(|name| !name.is_empty()) {
        let name = std::str::from_utf8(name)?;
        let (from, to) = (root.join(name), tree.join(name));
        let Ok(wanted) = std::fs::read(&from) else { continue }; // Deleted and not yet committed.
        if std::fs::read(&to).is_ok_and(|there| there == wanted) {
            continue;
        }
        std::fs::create_dir_all(to.parent().unwrap_or(tree))?;
        std::fs::write(&to, wanted)?;
    }
    Ok(())
}

fn apply(tree: &Path, mutant: &Mutant, flags: &[&str]) -> anyhow::Result<()> {
    // The copy lies inside a repository of which it is no part.
    let status = Command::new("git")
        .arg("apply")
        .args(flags)
        .arg(&mutant.patch)
        .current_dir(tree)
        .env("GIT_CEILING_DIRECTORIES", tree.parent().unwrap_or(tree))
        .status()?;
    ensure!(status.success(), "{} no longer applies: adapt it to the code", mutant.name);
    Ok(())
}

/// Has the plan that kills a mutant made smaller; the file says which defect it shows. Returns what came of it.
fn shrink(
    root: &Path,
    zoo: &Path,
    mutant: &Mutant,
    seed: u64,
    folder: &Path,
) -> anyhow::Result<String> {
    let file = root.join(folder).join(format!("zoo-{}.toml", mutant.name));
    let ran = Command::new(Harness::Sim.binary(zoo))
        .current_dir(root)
        .args(["swarm", "--shrink", "--seed", &seed.to_string(), "--keep"])
        .arg(&file)
        .output()?;
    let text = String::from_utf8_lossy(&ran.stdout);
    let shrunk = text.lines().find_map(|line| line.strip_prefix("shrunk "));
    let Some(shrunk) = shrunk else { bail!("{}: the simulator said {text}", mutant.name) };
    let patch = std::fs::read_to_string(&mutant.patch)?;
    let header = patch.lines().map_while(|line| line.strip_prefix('#'));
    let header: Vec<String> = header.map(|line| format!("#{line}")).collect();
    let plan = std::fs::read_to_string(&file)?;
    let named = format!("# The plan that showed the planted defect {}.patch\n", mutant.name);
    std::fs::write(&file, format!("{named}{}\n{plan}", header.join("\n")))?;
    Ok(format!(" · {}", shrunk.trim()))
}

/// Builds a harness with the defect in it.
fn build(harness: Harness, zoo: &Path, mutant: &Mutant) -> anyhow::Result<()> {
    let (package, folder, flags) = harness.package();
    let built = crate::cargo(&zoo.join("tree").join(folder))
        .args(["build", "--quiet", "--profile", "sim", "--package", package])
        .env("CARGO_TARGET_DIR", harness.target(zoo))
        .env("RUSTFLAGS", flags)
        .status()?;
    ensure!(built.success(), "{} doesn't compile: adapt it to the code", mutant.name);
    Ok(())
}

/// Builds the simulator with the defect in it and lets it search.
fn hunt(harness: Harness, zoo: &Path, mutant: &Mutant, seeds_max: u64) -> anyhow::Result<Fate> {
    build(harness, zoo, mutant)?;
    let seeds = if mutant.fires.is_empty() { HARMLESS_SEEDS.min(seeds_max) } else { seeds_max };
    let mut command = Command::new(harness.binary(zoo));
    command.current_dir(zoo);
    if harness == Harness::Sim {
        command.arg("swarm");
    }
    command.args(["--seeds", &format!("0..{seeds}")]);
    if !mutant.fires.is_empty() {
        command.args(["--named", &mutant.fires.join(",")]);
    }
    let ran = command.output()?;
    let text = String::from_utf8_lossy(&ran.stdout);
    let found = text.lines().find_map(|line| line.strip_prefix("found   "));
    let begins = ["swarm: ", "turmoil: ", "madsim: "];
    let stats =
        text.lines().find_map(|line| begins.iter().find_map(|begin| line.strip_prefix(begin)));
    let Some(stats) = stats else { bail!("{}: the simulator said {text}", mutant.name) };
    let seconds = stats.rsplit("; ").next().and_then(|last| last.split(' ').next());
    let first_seed =
        found.and_then(|found| found.rsplit(' ').next()).and_then(|n| n.parse::<u64>().ok());
    Ok(Fate {
        name: mutant.name.clone(),
        told: found.unwrap_or("nothing fired").to_owned(),
        seeds: first_seed.map_or(0, |seed| seed + 1),
        seconds: seconds.and_then(|text| text.parse().ok()).unwrap_or_default(),
        as_expected: found.is_some() != mutant.fires.is_empty(),
    })
}
