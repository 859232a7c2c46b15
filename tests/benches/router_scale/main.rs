//! What many routers cost, and how soon they know.
//!
//! `feeds`: memory of a `tenantry serve` process that a thousand readers follow, after changes have reached them all.
//! `propagation`: from the commit of a change until ten routers have applied it.
//! `idle`: what 100,000 tenants cost a router of which 10,000 were used once, after the idle time.
//! `noisy_neighbour`: the p99 of a tenant's requests while another asks a hundred times what it may, as a ratio to when it
//! asks what it may.
//! `dead_cluster`: the same while fifty tenants ask for a cluster that takes connections and says nothing, as a ratio to
//! when it answers.
//! `outage`: what the tenants of three clusters notice, asked for by two services, while a cluster, the control plane and a
//! service are killed. Prints who asked and what came of it, second by second, and fails where anybody sees an error whose
//! cluster was there.
//!
//!     cargo bench -p tenantry-tests --bench router_scale [-- PART…]
//!
//! Lines read `figure NAME VALUE UNIT`.

#![allow(
    clippy::expect_used,
    clippy::print_stdout,
    reason = "a benchmark reports on standard output and gives up loudly"
)]

mod feeds;
mod idle;
mod load;
mod outage;
mod propagation;

/// The log of a control plane that is measured: what an operator would keep.
pub(crate) const LOG: (&str, &str) = ("TENANTRY__TELEMETRY__LOG_FILTER", "warn,tenantry=info");

fn main() {
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().expect("a runtime");
    runtime.block_on(async {
        let parts: Vec<String> = std::env::args().skip(1).filter(|argument| !argument.starts_with('-')).collect();
        // A process that `outage` started.
        if parts == [outage::SERVICE] {
            return outage::service().await;
        }
        let wanted = |part: &str| parts.is_empty() || parts.iter().any(|named| named == part);
        if wanted("feeds") {
            feeds::measure().await;
        }
        if wanted("propagation") {
            propagation::measure().await;
        }
        if wanted("idle") {
            idle::measure().await;
        }
        if wanted("noisy_neighbour") {
            load::noisy_neighbour().await;
        }
        if wanted("dead_cluster") {
            load::dead_cluster().await;
        }
        if wanted("outage") {
            outage::measure().await;
        }
    });
}
