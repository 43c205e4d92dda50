//! Whether README and OPERATIONS name every setting and command as the code has them. Tests only.

use std::collections::BTreeSet;

use clap::CommandFactory;
use serde::Serialize;

use crate::cli::Cli;
use crate::config::{Common, CoordinatorSettings, ReplicaSettings, RouterSettings, ShardSettings};

const OPERATIONS: &str = include_str!("../../../docs/OPERATIONS.md");
const README: &str = include_str!("../../../README.md");
const DAEMONS: [&str; 4] = ["coordinator", "shard", "replica", "router"];

/// The cells of the settings' table: role, flag, environment, TOML, default, meaning.
fn rows() -> Vec<Vec<String>> {
    let (_, table) = OPERATIONS.split_once("<!-- settings").unwrap();
    let (table, _) = table.split_once("<!-- end of settings").unwrap();
    let cells = |line: &str| {
        let cells = line.trim_matches('|').split('|');
        cells.map(|cell| cell.trim().trim_matches('`').to_owned()).collect()
    };
    table.lines().filter(|line| line.contains("`--")).map(cells).collect()
}

fn names(settings: &impl Serialize) -> BTreeSet<String> {
    let value = serde_json::to_value(settings).unwrap();
    let fields = value.as_object().unwrap();
    let nested = |(name, value): (&String, &serde_json::Value)| match value.as_object() {
        Some(table) => table.keys().map(|inner| format!("{name}.{inner}")).collect(),
        None => vec![name.clone()],
    };
    fields.iter().flat_map(nested).collect()
}

#[test]
fn the_table_of_settings_has_every_flag_and_no_other() {
    let cli = Cli::command();
    for role in DAEMONS {
        let command = cli.find_subcommand(role).unwrap();
        let shown = command.get_arguments().filter(|arg| !arg.is_hide_set());
        let mut flags: BTreeSet<String> =
            shown.filter_map(|arg| Some(format!("--{}", arg.get_long()?))).collect();
        flags.remove("--config");
        let of_role = |row: &&Vec<String>| row[0] == "all" || row[0].contains(role);
        let documented: BTreeSet<String> =
            rows().iter().filter(of_role).map(|row| row[1].clone()).collect();
        assert_eq!(documented, flags, "the flags of a {role}");
    }
}

#[test]
fn the_table_of_settings_has_every_name_of_the_file_and_of_the_environment() {
    let mut known = names(&Common::default());
    known.append(&mut names(&CoordinatorSettings::default()));
    known.append(&mut names(&ShardSettings::default()));
    known.append(&mut names(&ReplicaSettings::default()));
    known.append(&mut names(&RouterSettings::default()));
    let documented: BTreeSet<String> = rows().iter().map(|row| row[3].clone()).collect();
    assert_eq!(documented, known);
    for row in rows() {
        let variable = format!("SHEAF_{}", row[3].replace('.', "__").to_ascii_uppercase());
        assert_eq!(row[2], variable, "the variable of {}", row[3]);
    }
}

#[test]
fn the_readme_names_every_command() {
    let table: String = README.lines().filter(|line| line.starts_with("| `")).collect();
    for command in Cli::command().get_subcommands() {
        let name = command.get_name();
        let named = table.contains(&format!("`{name}`")) || table.contains(&format!("`{name} "));
        assert!(named || name == "help", "README's table lacks {name}");
    }
}
