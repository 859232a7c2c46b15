//! `tenantry migrate`: migration sets and the rollouts that bring the fleet to them.
//!
//! Exit statuses are part of the contract with CI: 0 done, 1 usage or failure, 2 the set, plan or import is refused, 3 some
//! tenants failed within the budget, 4 the budget is exceeded, 5 a tenant's own history is not the set's or its schema
//! drifted, 6 interrupted or paused, and resumable.

mod down;
mod drift;
mod dry_run;
mod failures;
mod import;
mod junit;
mod lint;
mod plan;
mod progress;
mod rollout;
mod set;
mod versions;
mod wave;

use std::path::PathBuf;
use std::time::Duration;

use clap::{ArgGroup, Args, Subcommand, ValueEnum};
use jiff::Timestamp;
use tenantry_api::{BreakerLength, Concurrency, CreateWave, DryRunSize, ErrorBudget};
use tenantry_domain::{DisplayName, Hours, RolloutId};

use super::arguments::{duration, future};
use super::error::CliError;
use super::paging::ListOptions;
use super::waiting::WaitOptions;
use super::{Context, examples};
use down::DownArguments;
use drift::DriftArguments;
use import::ImportArguments;
use lint::LintOptions;
use set::SetPrefix;

/// Bring the fleet to a folder of SQL files.
#[derive(Debug, Subcommand)]
pub(crate) enum MigrateCommand {
    /// Check a folder of SQL files, here and without a control plane
    #[command(after_help = examples!(
        "tenantry migrate lint --dir tenant-migrations",
        "tenantry migrate lint --dir tenant-migrations --since 14 --deny warnings",
        "tenantry migrate lint --dir tenant-migrations --allow squawk/ban-drop-column",
        "",
        "Prints one finding a line as file:line:column: severity: message [rule], and exits with 2 if there is an error.",
        "A file says why a rule does not matter with `-- lint-ignore RULE: reason` on a line of its own, before a",
        "statement or among the headers. The folder's lint.toml holds levels for everybody:",
        "",
        "  since = 14                     # as --since",
        "  extensions = [\"citext\"]        # as --extension",
        "  [rules]                        # off, warning or error; `tenantry migrate rules` lists them",
        "  qualified-name = \"error\"",
    ))]
    Lint(LintArguments),
    /// List the rules of `migrate lint` and what each does
    #[command(after_help = examples!("tenantry migrate rules", "tenantry migrate rules --dir tenant-migrations"))]
    Rules(RulesArguments),
    /// Take over the migrations of another tool: the same files, in the same order, under Tenantry's names
    #[command(after_help = examples!(
        "tenantry migrate import --from diesel --dir migrations --to tenant-migrations --dry-run",
        "tenantry migrate import --from flyway --dir src/main/resources/db/migration --to tenant-migrations",
        "",
        "Files that undo are taken along as far as they can be. What Tenantry cannot keep (two files of one version, names that the tool",
        "would not read, Flyway's placeholders) is refused with the reason, and the command exits with 2.",
    ))]
    Import(ImportArguments),
    /// Register a folder of SQL files as a migration set, without applying it
    #[command(after_help = examples!(
        "tenantry migrate push --dir tenant-migrations --name flights",
        "",
        "Lints first, as `tenantry migrate lint` does, the files that no set has yet; exits with 2 if there is an error.",
    ))]
    Push(PushArguments),
    /// Say what a rollout would do now, and try it on a few tenants without keeping anything
    #[command(after_help = examples!(
        "tenantry migrate plan --dir tenant-migrations",
        "tenantry migrate plan --set 3f9a01c2 --wave label:tier=canary --wave all --sql",
        "tenantry migrate plan --dir tenant-migrations --dry-run 3 --out plan.json",
        "tenantry migrate apply --plan plan.json",
        "",
        "A folder is pushed first, which changes no tenant. `apply --plan` begins just what the plan says, or exits with 2",
        "and says what is another by now. --dry-run runs the files on tenants of different sizes, each tenant's in one",
        "transaction that is rolled back, and shows the locks: programs may wait for those, so each tenant takes",
        "--dry-run-timeout at most. Files that say `-- no-transaction` cannot be tried. Exits with 2 where a tenant fails.",
    ))]
    Plan(Box<PlanArguments>),
    /// Bring all tenants to a migration set and wait for it
    #[command(after_help = examples!(
        "tenantry migrate apply --dir tenant-migrations",
        "tenantry migrate apply --dir tenant-migrations --junit rollout.xml --when-interrupted pause",
        "tenantry migrate apply --dir tenant-migrations --verify",
        "tenantry migrate apply --set 3f9a01c2 --concurrency 32 --per-cluster 8 --no-wait",
        "tenantry migrate apply --set 3f9a01c2 --queue --at 8h --hours \"mon-fri 22:00-05:00 Europe/Berlin\" --no-wait",
        "tenantry migrate apply --dir tenant-migrations --wave label:tier=canary,bake=10m --wave 10%,budget=2 --wave all",
        "tenantry migrate apply --plan plan.json",
        "",
        "Without --wave: one tenant, then 1 %, then 10 %, then all, and the first failure stops. All at once, whatever",
        "fails: --wave all,budget=any. New tenants begin with the set once all waves before the last are through.",
        "",
        "Exits with 0 when every tenant is there, 2 if the set or the plan is refused, 3 if some tenants failed, 4 if the error",
        "budget is exceeded or the breaker opens, 5 if a tenant's own history is not the set's, 6 if interrupted: the rollout goes on, and `tenantry migrate watch` waits",
        "for it again.",
    ))]
    Apply(Box<ApplyArguments>),
    /// Show a rollout and the tenants that it could not migrate; the newest unless named
    #[command(after_help = examples!("tenantry migrate status", "tenantry migrate status --output json"))]
    Status(RolloutArguments),
    /// Wait for a rollout; the newest unless named
    #[command(after_help = examples!("tenantry migrate watch"))]
    Watch(WatchArguments),
    /// Begin no more tenants; those begun are finished
    Pause(RolloutArguments),
    /// Go on with a paused rollout and wait for it
    Resume(WatchArguments),
    /// End a rollout; what is applied stays
    Abort(RolloutArguments),
    /// Take up the failed tenants of a rollout, and only those, and wait for them
    #[command(after_help = examples!("tenantry migrate retry"))]
    Retry(WatchArguments),
    /// Compare tenants' schemas with what their migrations make
    #[command(after_help = examples!(
        "tenantry migrate drift                       # what was found last, of those in drift",
        "tenantry migrate drift --all                 # look at everybody now",
        "tenantry migrate drift acme globex --explain # every object that differs",
        "tenantry migrate drift --label tier=canary --output json",
        "tenantry migrate drift --sample 100          # those that were not looked at for the longest time",
        "",
        "A tenant is drifted where objects of its schema are missing, unexpected or changed, and diverged where its home",
        "has other migrations than the fleet. Comments, rights, data and storage parameters are not compared.",
        "Exits with 0 where nobody is in drift, 5 where somebody is, 1 where somebody could not be looked at.",
    ))]
    Drift(DriftArguments),
    /// Take tenants back to an earlier version, by the set's down files; never the fleet
    #[command(after_help = examples!(
        "tenantry migrate down acme --to 6",
        "tenantry migrate down acme globex --to 6 --yes",
        "",
        "Refused, with exit status 2, unless the set has V7__name.down.sql beside every V7__name.sql above the version,",
        "and while a rollout is under way. The tenants stay behind the fleet until the next rollout brings them along.",
    ))]
    Down(DownArguments),
    /// List rollouts, the newest first
    Rollouts(ListOptions),
    /// List migration sets
    Sets(ListOptions),
    /// Show a migration set and its files
    #[command(after_help = examples!("tenantry migrate set 3f9a01c2"))]
    Set {
        /// Its id, or the first eight or more digits of it
        set: SetPrefix,
    },
}

/// Where the files are.
#[derive(Debug, Args)]
pub(crate) struct FolderArguments {
    /// The folder of SQL files, named like V7__delays.sql
    #[arg(long = "dir", value_name = "FOLDER")]
    folder: PathBuf,
}

/// What to check, and how.
#[derive(Debug, Args)]
pub(crate) struct LintArguments {
    #[command(flatten)]
    folder: FolderArguments,
    #[command(flatten)]
    lint: LintOptions,
}

/// For which folder.
#[derive(Debug, Args)]
pub(crate) struct RulesArguments {
    /// A folder of SQL files, for the levels of its lint.toml
    #[arg(long = "dir", value_name = "FOLDER")]
    folder: Option<PathBuf>,
}

/// What to register.
#[derive(Debug, Args)]
pub(crate) struct PushArguments {
    #[command(flatten)]
    folder: FolderArguments,
    /// What people call the set; the folder's name unless given
    #[arg(long)]
    name: Option<DisplayName>,
    #[command(flatten)]
    lint: LintOptions,
}

/// What to bring the fleet to, and how.
#[derive(Debug, Args)]
pub(crate) struct WishArguments {
    /// A folder of SQL files, which is pushed first
    #[arg(long = "dir", value_name = "FOLDER")]
    folder: Option<PathBuf>,
    /// A set that was pushed: its id, or the first eight or more digits of it
    #[arg(long, value_name = "SET")]
    set: Option<SetPrefix>,
    /// What people call the set when it is pushed; the folder's name unless given
    #[arg(long, conflicts_with = "set")]
    name: Option<DisplayName>,
    /// Most tenants that are migrated at the same time, 1 to 256; the control plane's default unless given
    #[arg(long, value_name = "NUMBER", value_parser = concurrency)]
    concurrency: Option<Concurrency>,
    /// Most of them on one cluster
    #[arg(long, value_name = "NUMBER", value_parser = concurrency)]
    per_cluster: Option<Concurrency>,
    /// Most of them in one database, which matters to tenants that share one
    #[arg(long, value_name = "NUMBER", value_parser = concurrency)]
    per_database: Option<Concurrency>,
    /// A wave, in order: whom it takes (a number of tenants, 10% of all, label:KEY=VALUE, plan:NAME, region:NAME, all), how
    /// long to wait behind it, and how many failures (a number, 2%, any) it bears: none unless given
    #[arg(long = "wave", value_name = "SELECT[,bake=SPAN][,budget=BUDGET]", value_parser = wave::wave)]
    waves: Vec<CreateWave>,
    /// How many failures it bears over all waves: a number of tenants, a percentage, or any
    #[arg(long, value_name = "BUDGET", default_value = "any", value_parser = wave::budget)]
    error_budget: ErrorBudget,
    /// Stop when so many tenants in a row fail with the same SQLSTATE
    #[arg(long, value_name = "NUMBER", value_parser = breaker)]
    breaker: Option<BreakerLength>,
    /// Ask every tenant's own history, also where the catalog knows it to be there
    #[arg(long)]
    verify: bool,
    #[command(flatten)]
    lint: LintOptions,
}

/// What to plan, and whether to try it.
#[derive(Debug, Args)]
#[command(group = ArgGroup::new("what").required(true).multiple(false).args(["folder", "set"]))]
pub(crate) struct PlanArguments {
    #[command(flatten)]
    wish: WishArguments,
    /// Write the plan, with the SQL, to this file for `tenantry migrate apply --plan`
    #[arg(long, value_name = "FILE")]
    out: Option<PathBuf>,
    /// Show the SQL of each file
    #[arg(long)]
    sql: bool,
    /// Try it on so many tenants of different sizes, 1 to 20, and undo everything
    #[arg(long, value_name = "NUMBER", value_parser = sample_size)]
    dry_run: Option<DryRunSize>,
    /// The longest that the dry run may take for each tenant, 10 minutes at most
    #[arg(long, value_name = "SPAN", default_value = "60s", value_parser = duration, requires = "dry_run")]
    dry_run_timeout: Duration,
}

/// What to apply, and how hard.
#[derive(Debug, Args)]
#[command(group = ArgGroup::new("what").required(true).multiple(false).args(["folder", "set", "plan"]))]
pub(crate) struct ApplyArguments {
    #[command(flatten)]
    wish: WishArguments,
    /// A file that `tenantry migrate plan --out` has written: apply just what it says, or nothing
    #[arg(long, value_name = "FILE", conflicts_with_all = [
        "name", "concurrency", "per_cluster", "per_database", "waves", "error_budget", "breaker", "verify", "queue",
        "not_before",
    ])]
    plan: Option<PathBuf>,
    #[command(flatten)]
    schedule: ScheduleOptions,
    #[command(flatten)]
    follow: FollowOptions,
}

/// When a rollout begins.
#[derive(Debug, Args)]
pub(crate) struct ScheduleOptions {
    /// Wait for its turn where another rollout is under way, instead of being refused
    #[arg(long)]
    queue: bool,
    /// Among those that wait, the highest begins first, -100 to 100
    #[arg(long, value_name = "NUMBER", default_value_t = 0, allow_hyphen_values = true,
        value_parser = clap::value_parser!(i32).range(-100..=100))]
    priority: i32,
    /// Begin at this time (RFC 3339), or in this span from now such as 8h
    #[arg(long = "at", value_name = "TIME", value_parser = future)]
    not_before: Option<Timestamp>,
    /// Begin tenants only within these hours, such as 22:00-05:00 or "mon-fri 01:30-04:00 Europe/Berlin"; UTC unless a zone
    /// is named
    #[arg(long, value_name = "HOURS")]
    hours: Option<Hours>,
}

/// How to follow a rollout.
#[derive(Debug, Args)]
pub(crate) struct FollowOptions {
    #[command(flatten)]
    waiting: WaitOptions,
    /// What becomes of the rollout on Ctrl-C or when the job is ended
    #[arg(long, value_enum, value_name = "WHAT", default_value_t = WhenInterrupted::Run)]
    when_interrupted: WhenInterrupted,
    /// Write a JUnit report there, with a suite for each wave and a case for each tenant
    #[arg(long, value_name = "FILE")]
    junit: Option<PathBuf>,
}

/// What becomes of a rollout that nobody waits for any more.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum WhenInterrupted {
    /// It goes on
    Run,
    /// No more tenants are begun until it is resumed
    Pause,
}

/// Which rollout.
#[derive(Debug, Args)]
pub(crate) struct RolloutArguments {
    /// Its id; the newest rollout unless given
    rollout: Option<RolloutId>,
}

/// Which rollout, and how long to wait for it.
#[derive(Debug, Args)]
pub(crate) struct WatchArguments {
    #[command(flatten)]
    which: RolloutArguments,
    #[command(flatten)]
    follow: FollowOptions,
}

impl MigrateCommand {
    pub(crate) async fn run(self, context: &Context) -> Result<(), CliError> {
        match self {
            Self::Lint(arguments) => lint::lint(context, &arguments.folder.folder, &arguments.lint),
            Self::Rules(arguments) => lint::rules(context, &arguments),
            Self::Import(arguments) => import::import(context, &arguments),
            Self::Push(arguments) => set::push(context, arguments).await,
            Self::Plan(arguments) => plan::plan(context, *arguments).await,
            Self::Apply(arguments) => rollout::apply(context, *arguments).await,
            Self::Status(arguments) => rollout::status(context, &arguments).await,
            Self::Watch(arguments) => rollout::watch(context, &arguments).await,
            Self::Pause(arguments) => rollout::pause(context, &arguments).await,
            Self::Resume(arguments) => rollout::resume(context, &arguments).await,
            Self::Abort(arguments) => rollout::abort(context, &arguments).await,
            Self::Retry(arguments) => rollout::retry(context, &arguments).await,
            Self::Drift(arguments) => drift::drift(context, arguments).await,
            Self::Down(arguments) => arguments.run(context).await,
            Self::Rollouts(options) => rollout::list(context, &options).await,
            Self::Sets(options) => set::list(context, &options).await,
            Self::Set { set } => set::show(context, &set).await,
        }
    }
}

fn sample_size(text: &str) -> Result<DryRunSize, String> {
    let number = text.parse::<u64>().map_err(|error| error.to_string())?;
    DryRunSize::new(number).map_err(|error| error.to_string())
}

fn breaker(text: &str) -> Result<BreakerLength, String> {
    let number = text.parse::<u64>().map_err(|error| error.to_string())?;
    BreakerLength::new(number).map_err(|error| error.to_string())
}

fn concurrency(text: &str) -> Result<Concurrency, String> {
    let number = text.parse::<u64>().map_err(|error| error.to_string())?;
    Concurrency::new(number).map_err(|error| error.to_string())
}
