//! An address that outlives the control plane behind it.

use std::net::SocketAddr;

use tenantry_testkit::BreakableSocket;

use crate::program::Serve;
use crate::world::World;

/// One replica as a process, behind an address that stays when it is killed and another is started in its place: what a
/// load balancer is to an operator.
#[derive(Debug)]
pub struct Door {
    socket: BreakableSocket,
    settings: Vec<(&'static str, &'static str)>,
    serve: Option<Serve>,
}

impl Door {
    /// Ends the replicas within this process and starts one outside with settings of its own; the world goes on over it.
    pub async fn open(world: &mut World<'_>, settings: &[(&'static str, &'static str)]) -> Self {
        world.rest().await;
        let serve = Serve::start_with(world, settings).await;
        world.take_replica(0).stop().await;
        let socket = BreakableSocket::before(address(&serve)).await;
        let door = Self { socket, settings: settings.to_vec(), serve: Some(serve) };
        world.use_door(&door.url());
        door
    }

    /// Where it is, as a URL.
    pub fn url(&self) -> String {
        format!("http://{}", self.socket.address())
    }

    /// `kill -9` of the replica. Nobody answers from then on.
    pub async fn kill(&mut self) {
        self.socket.go_down();
        if let Some(serve) = self.serve.take() {
            serve.kill().await;
        }
    }

    /// Starts the next replica, and waits until it is up.
    pub async fn start(&mut self, world: &World<'_>) {
        let serve = Serve::start_with(world, &self.settings).await;
        self.socket.lead_to(address(&serve));
        self.socket.come_up();
        self.serve = Some(serve);
    }

    /// Ends it in good order.
    pub async fn close(self) {
        if let Some(serve) = self.serve {
            assert!(serve.terminate().await.success());
        }
    }
}

fn address(serve: &Serve) -> SocketAddr {
    serve.url().trim_start_matches("http://").trim_end_matches('/').parse().expect("an address")
}
