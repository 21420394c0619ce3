//! The contract between an engine and a rank: variables of the environment, as `torchrun` sets
//! them. Those of Slurm are mapped to them.

use std::net::{IpAddr, ToSocketAddrs, UdpSocket};

use crate::job::order::{LeasedGpu, Meeting};

/// Ports that Slurm's jobs meet at, by their ids.
const SLURM_PORTS: (u32, u32) = (20_000, 20_000);

/// The place of a rank among the others.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Contract {
    pub(super) rank: u32,
    pub(super) world_size: u32,
    host: String,
    port: u16,
    /// An agent of the engine runs the store in which ranks meet.
    has_store: bool,
    /// The network interface by which ranks speak, where the user names one.
    interface: Option<String>,
    /// The same for NCCL.
    nccl_interface: Option<String>,
    /// The number of the rank among those of its machine.
    local_rank: u32,
    /// The GPUs that CUDA shows, by number or uuid; None for all.
    visible: Option<Vec<String>>,
    is_slurm: bool,
}

impl Contract {
    /// Reads the variables.
    ///
    /// # Errors
    /// The variable that is missing or wrong, in words.
    pub(super) fn read(variable: impl Fn(&str) -> Option<String>) -> Result<Self, String> {
        let is_slurm = variable("RANK").is_none() && variable("SLURM_PROCID").is_some();
        let number = |name: &str| -> Result<u32, String> {
            let text = variable(name).ok_or_else(|| {
                format!("{name} is not set; an engine such as torchrun starts `torchd --rank`, and sets it")
            })?;
            text.parse().map_err(|_| format!("{name} is {text:?}; a number is needed"))
        };
        let (rank, world_size) = match is_slurm {
            true => (number("SLURM_PROCID")?, number("SLURM_NTASKS")?),
            false => (number("RANK")?, number("WORLD_SIZE")?),
        };
        if rank >= world_size {
            return Err(format!("RANK is {rank}, and WORLD_SIZE is {world_size}"));
        }
        let given = variable("MASTER_ADDR").filter(|host| !host.is_empty());
        let host = match given {
            Some(host) => host,
            None if is_slurm => {
                first_host(&variable("SLURM_STEP_NODELIST").or(variable("SLURM_NODELIST")).unwrap_or_default())?
            }
            None if world_size == 1 => "127.0.0.1".to_owned(),
            None => return Err("MASTER_ADDR is not set; it names the host at which ranks meet".to_owned()),
        };
        let port = match variable("MASTER_PORT") {
            Some(text) => text.parse().map_err(|_| format!("MASTER_PORT is {text:?}; a port is needed"))?,
            None if is_slurm => {
                let (first, count) = SLURM_PORTS;
                (first + number("SLURM_JOB_ID")? % count) as u16
            }
            None if world_size == 1 => 0,
            None => return Err("MASTER_PORT is not set; it names the port at which ranks meet".to_owned()),
        };
        let has_store = variable("TORCHELASTIC_USE_AGENT_STORE").is_some_and(|told| told.eq_ignore_ascii_case("true"));
        let named = |name| variable(name).filter(|name| !name.is_empty());
        let (interface, nccl_interface) = (named("GLOO_SOCKET_IFNAME"), named("NCCL_SOCKET_IFNAME"));
        let local = if is_slurm { "SLURM_LOCALID" } else { "LOCAL_RANK" };
        let local_rank = if named(local).is_some() { number(local)? } else { 0 };
        let listed = |list: String| list.split(',').map(|name| name.trim().to_owned()).collect();
        let visible = variable("CUDA_VISIBLE_DEVICES").map(listed);
        Ok(Self { rank, world_size, host, port, has_store, interface, nccl_interface, local_rank, visible, is_slurm })
    }

    /// The GPU of the rank: the one of its number among the GPUs that CUDA shows on its machine. A
    /// task of Slurm may be shown the one alone that is its own.
    ///
    /// # Errors
    /// There is none, or NCCL would leave this machine, which the daemon does not allow.
    pub(super) fn gpu(&self, may_leave_machine: bool) -> Result<LeasedGpu, String> {
        if self.world_size > 1 {
            refuse_interface("NCCL_SOCKET_IFNAME", self.nccl_interface.as_deref(), may_leave_machine)?;
        }
        let number = self.local_rank;
        let of = |visible: &str| LeasedGpu {
            visible: visible.to_owned(),
            index: visible.parse().unwrap_or(number),
            memory_bytes: None,
        };
        let Some(all) = &self.visible else { return Ok(of(&number.to_string())) };
        // A name that is none ends the list. (CUDA C++ Programming Guide)
        let shown: Vec<_> = all.iter().take_while(|name| !name.is_empty() && !name.starts_with('-')).collect();
        match (shown.get(number as usize), &shown[..]) {
            (Some(own), _) => Ok(of(own)),
            (None, [own]) if self.is_slurm => Ok(of(own)),
            (None, shown) => Err(format!(
                "the job needs a GPU for each rank, and this is rank {number} of its machine ({}), where \
                 CUDA_VISIBLE_DEVICES shows {}: {:?}",
                if self.is_slurm { "SLURM_LOCALID" } else { "LOCAL_RANK" },
                shown.len(),
                all.join(",")
            )),
        }
    }

    /// The network interface by which NCCL is to speak; None for the one that it picks.
    pub(super) fn nccl_interface(&self, may_leave_machine: bool) -> Option<String> {
        // NCCL takes a bare name for the beginning of one.
        let name = if may_leave_machine { self.interface.as_deref()? } else { "lo" };
        Some(format!("={name}"))
    }

    /// Where the ranks meet; None for a rank that is alone.
    ///
    /// # Errors
    /// The address leads off this machine, which the daemon does not allow, or nowhere.
    pub(super) fn meeting(&self, may_leave_machine: bool) -> Result<Option<Meeting>, String> {
        if self.world_size == 1 {
            return Ok(None);
        }
        let Self { host, port, .. } = self;
        refuse_interface("GLOO_SOCKET_IFNAME", self.interface.as_deref(), may_leave_machine)?;
        let found = (host.as_str(), *port).to_socket_addrs();
        let found = found.map_err(|error| format!("MASTER_ADDR is {host:?}, which cannot be resolved: {error}"))?;
        let mut last = None;
        for store in found {
            // Nothing is sent: the kernel picks the address by which it would.
            let any: IpAddr = if store.is_ipv4() { [0, 0, 0, 0].into() } else { [0; 16].into() };
            let own =
                UdpSocket::bind((any, 0)).and_then(|socket| socket.connect(store).and_then(|()| socket.local_addr()));
            match own {
                Ok(own) if !may_leave_machine && [own.ip(), store.ip()].iter().any(|ip| !ip.is_loopback()) => {
                    return Err(format!(
                        "ranks would meet at {store}, off this machine's loopback, and what they exchange is not \
                         encrypted; security.allow_unencrypted_ranks = true in the daemon's settings allows that"
                    ));
                }
                Ok(own) => {
                    return Ok(Some(Meeting {
                        host: store.ip().to_string(),
                        port: *port,
                        serves: self.rank == 0 && !self.has_store,
                        address: own.ip().to_string(),
                        interface: self.interface.clone(),
                    }));
                }
                Err(error) => last = Some(error),
            }
        }
        let why = last.map_or_else(|| "it has no address".to_owned(), |error| error.to_string());
        Err(format!("MASTER_ADDR is {host:?}, which cannot be reached: {why}"))
    }
}

/// Refuses a network interface that leads off this machine, unless the daemon allows that.
fn refuse_interface(variable: &str, interface: Option<&str>, may_leave_machine: bool) -> Result<(), String> {
    match interface {
        Some(name) if !may_leave_machine && name.trim_start_matches('=') != "lo" => Err(format!(
            "{variable} is {name}, and ranks stay on loopback, since what they exchange is not encrypted; \
             security.allow_unencrypted_ranks = true in the daemon's settings allows that"
        )),
        _ => Ok(()),
    }
}

/// The first host of a list of Slurm's, such as `node[03-07,9],other`.
fn first_host(list: &str) -> Result<String, String> {
    let missing = || "SLURM_STEP_NODELIST is not set; MASTER_ADDR names the host at which ranks meet".to_owned();
    let end = list.find(['[', ',']).unwrap_or(list.len());
    let (prefix, rest) = list.split_at(end);
    let number = rest.strip_prefix('[').map(|rest| &rest[..rest.find(['-', ',', ']']).unwrap_or(rest.len())]);
    let host = format!("{prefix}{}", number.unwrap_or_default());
    if host.is_empty() { Err(missing()) } else { Ok(host) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(variables: &[(&str, &str)]) -> Result<Contract, String> {
        let find =
            |name: &str| variables.iter().find(|(found, _)| *found == name).map(|(_, value)| (*value).to_owned());
        Contract::read(find)
    }

    #[test]
    fn torchrun_and_slurm_say_the_same_in_other_words() {
        let torchrun = [
            ("RANK", "1"),
            ("WORLD_SIZE", "4"),
            ("MASTER_ADDR", "node03"),
            ("MASTER_PORT", "29500"),
            ("TORCHELASTIC_USE_AGENT_STORE", "True"),
        ];
        let found = read(&torchrun).unwrap();
        assert_eq!((found.rank, found.world_size, found.port, found.has_store), (1, 4, 29500, true));
        let slurm = [
            ("SLURM_PROCID", "1"),
            ("SLURM_NTASKS", "4"),
            ("SLURM_STEP_NODELIST", "node[03-07,9]"),
            ("SLURM_JOB_ID", "49500"),
        ];
        assert_eq!(read(&slurm).unwrap(), Contract { has_store: false, is_slurm: true, ..found });
        assert_eq!(first_host("one,two").unwrap(), "one");
        assert_eq!(first_host("rack1-node7").unwrap(), "rack1-node7");
    }

    #[test]
    fn a_variable_that_is_missing_or_wrong_is_named() {
        let good = [("RANK", "0"), ("WORLD_SIZE", "2"), ("MASTER_ADDR", "127.0.0.1"), ("MASTER_PORT", "1")];
        for (place, (name, _)) in good.iter().enumerate() {
            let mut without = good.to_vec();
            without.remove(place);
            assert!(read(&without).unwrap_err().contains(name), "{name}");
            let mut wrong = good.to_vec();
            wrong[place].1 = "x y";
            let found = read(&wrong).and_then(|contract| contract.meeting(true).map(drop));
            assert!(found.unwrap_err().contains(name), "{name}");
        }
        assert!(read(&[("RANK", "2"), ("WORLD_SIZE", "2")]).unwrap_err().contains("RANK is 2"));
    }

    #[test]
    fn a_rank_has_the_gpu_of_its_number_on_its_machine() {
        let alone = [("RANK", "0"), ("WORLD_SIZE", "1")];
        let gpu = |more: &[(&str, &str)]| read(&[&alone[..], more].concat()).unwrap().gpu(false);
        let found = |more: &[(&str, &str)]| gpu(more).map(|gpu| (gpu.visible, gpu.index)).unwrap();
        assert_eq!(found(&[]), ("0".into(), 0));
        assert_eq!(found(&[("LOCAL_RANK", "3")]), ("3".into(), 3));
        assert_eq!(found(&[("LOCAL_RANK", "1"), ("CUDA_VISIBLE_DEVICES", "4, 6")]), ("6".into(), 6));
        assert_eq!(found(&[("LOCAL_RANK", "1"), ("CUDA_VISIBLE_DEVICES", "GPU-a,GPU-b")]), ("GPU-b".into(), 1));
        for shown in ["", "-1", "4", "4,-1,5", "4,,5"] {
            let told = gpu(&[("LOCAL_RANK", "1"), ("CUDA_VISIBLE_DEVICES", shown)]).unwrap_err();
            assert!(told.contains(&format!("{shown:?}")) && told.contains("LOCAL_RANK"), "{told}");
        }
        let task = [("SLURM_PROCID", "0"), ("SLURM_NTASKS", "1"), ("SLURM_LOCALID", "1"), ("SLURM_JOB_ID", "1")];
        let of_task = |shown| {
            let place = [("MASTER_ADDR", "127.0.0.1"), ("CUDA_VISIBLE_DEVICES", shown)];
            read(&[&task[..], &place[..]].concat()).unwrap().gpu(false).map(|gpu| gpu.visible).ok()
        };
        assert_eq!([of_task("5"), of_task("5,7"), of_task("")], [Some("5".into()), Some("7".into()), None]);
    }

    #[test]
    fn ranks_stay_on_loopback_unless_the_daemon_allows_more() {
        let at = |host| read(&[("RANK", "0"), ("WORLD_SIZE", "2"), ("MASTER_ADDR", host), ("MASTER_PORT", "29500")]);
        let here = at("127.0.0.1").unwrap().meeting(false).unwrap().unwrap();
        assert_eq!((here.address.as_str(), here.serves), ("127.0.0.1", true));
        let named = |variable, name| {
            let read = read(&[
                ("RANK", "0"),
                ("WORLD_SIZE", "2"),
                ("MASTER_ADDR", "127.0.0.1"),
                ("MASTER_PORT", "1"),
                (variable, name),
            ]);
            let read = read.unwrap();
            (read.meeting(false).err(), read.gpu(false).err())
        };
        // NCCL is for ranks on GPUs alone.
        let (gloo, nccl) = (named("GLOO_SOCKET_IFNAME", "eth0"), named("NCCL_SOCKET_IFNAME", "eth0"));
        assert!(gloo.0.unwrap().contains("GLOO_SOCKET_IFNAME is eth0") && gloo.1.is_none());
        assert!(nccl.1.unwrap().contains("NCCL_SOCKET_IFNAME is eth0") && nccl.0.is_none());
        assert_eq!(named("NCCL_SOCKET_IFNAME", "=lo"), (None, None));
        let alone = read(&[("RANK", "0"), ("WORLD_SIZE", "1"), ("NCCL_SOCKET_IFNAME", "eth0")]).unwrap();
        assert!(alone.gpu(false).is_ok(), "a rank that is alone does not speak");
        let told = at("192.0.2.1").unwrap().meeting(false);
        // Without a network there is no way to that address at all.
        assert!(
            told.is_err_and(|words| words.contains("allow_unencrypted_ranks") || words.contains("cannot be reached"))
        );
    }
}
