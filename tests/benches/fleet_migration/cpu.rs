//! How much processor time each process spends: told however busy the machine is with other things.

use tenantry_testkit::Server;
use tenantry_tests::figures::figure;

/// Linux tells programs of a hundred ticks a second, whatever its own are (`USER_HZ`).
const TICK_MS: f64 = 10.0;

/// What was spent so far, in clock ticks.
#[derive(Clone, Copy)]
pub(crate) struct Spent {
    ourselves: u64,
    catalog: u64,
    homes: u64,
}

impl Spent {
    pub(crate) fn so_far(catalog: &Server, homes: &Server) -> Self {
        let of = |server: &Server| of_server(server.cluster().pid().expect("a server that runs"));
        Self { ourselves: times(std::process::id()).0, catalog: of(catalog), homes: of(homes) }
    }

    /// Since an earlier moment, in milliseconds a tenant.
    pub(crate) fn print_since(self, earlier: Self, name: &str, tenants: usize) {
        #[expect(clippy::cast_precision_loss, reason = "small numbers")]
        let each = |now: u64, then: u64| now.saturating_sub(then) as f64 * TICK_MS / tenants as f64;
        figure(&format!("{name}_cpu_ourselves_ms"), each(self.ourselves, earlier.ourselves), "ms");
        figure(&format!("{name}_cpu_catalog_ms"), each(self.catalog, earlier.catalog), "ms");
        figure(&format!("{name}_cpu_homes_ms"), each(self.homes, earlier.homes), "ms");
    }
}

/// Of a server's main process, its children that live, and those that have ended.
fn of_server(main: u32) -> u64 {
    let (own, ended, _) = times(main);
    let processes = std::fs::read_dir("/proc").expect("the processes").flatten();
    let children = processes.filter_map(|entry| entry.file_name().to_str()?.parse::<u32>().ok());
    own + ended + children.map(times).filter(|(_, _, parent)| *parent == main).map(|(own, _, _)| own).sum::<u64>()
}

/// A process's own ticks, those of its children that have ended, and its parent; nothing where it has ended meanwhile.
fn times(process: u32) -> (u64, u64, u32) {
    let stat = std::fs::read_to_string(format!("/proc/{process}/stat")).unwrap_or_default();
    // Behind the name, which may hold anything but ends with the last parenthesis.
    let fields: Vec<&str> = stat.rsplit(") ").next().unwrap_or_default().split(' ').collect();
    let number = |at: usize| fields.get(at).and_then(|field| field.parse::<u64>().ok()).unwrap_or(0);
    (number(11) + number(12), number(13) + number(14), u32::try_from(number(1)).unwrap_or(0))
}
