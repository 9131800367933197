//! The filter of system calls: what it refuses, a program can't ask of the kernel at all.

use std::collections::BTreeMap;

use nix::libc;
use seccompiler::SeccompCmpArgLen::Dword;
use seccompiler::SeccompCmpOp::{Eq, MaskedEq, Ne};
use seccompiler::{
    BpfProgram, SeccompAction, SeccompCmpOp, SeccompCondition, SeccompFilter, SeccompRule, apply_filter, sock_filter,
};

use super::super::error::{ConfineError, Step};
use super::super::policy::{Level, Network, Policy};

type Rules = BTreeMap<i64, Vec<SeccompRule>>;
type Built<T> = Result<T, seccompiler::BackendError>;

/// Calls that change the machine, look into other processes, or add a way around the other layers.
const REFUSED: &[i64] = &[
    libc::SYS_acct,
    libc::SYS_add_key,
    libc::SYS_bpf,
    libc::SYS_chroot,
    libc::SYS_delete_module,
    libc::SYS_fanotify_init,
    libc::SYS_finit_module,
    libc::SYS_fsconfig,
    libc::SYS_fsmount,
    libc::SYS_fsopen,
    libc::SYS_fspick,
    libc::SYS_init_module,
    libc::SYS_io_uring_enter,
    libc::SYS_io_uring_register,
    libc::SYS_io_uring_setup,
    libc::SYS_kcmp,
    libc::SYS_kexec_file_load,
    libc::SYS_kexec_load,
    libc::SYS_keyctl,
    libc::SYS_lookup_dcookie,
    libc::SYS_mount,
    libc::SYS_mount_setattr,
    libc::SYS_move_mount,
    libc::SYS_name_to_handle_at,
    libc::SYS_nfsservctl,
    libc::SYS_open_by_handle_at,
    libc::SYS_open_tree,
    OPEN_TREE_ATTR,
    libc::SYS_perf_event_open,
    libc::SYS_pidfd_getfd,
    libc::SYS_pivot_root,
    libc::SYS_process_madvise,
    libc::SYS_process_vm_readv,
    libc::SYS_process_vm_writev,
    libc::SYS_ptrace,
    libc::SYS_quotactl,
    libc::SYS_quotactl_fd,
    libc::SYS_reboot,
    libc::SYS_request_key,
    libc::SYS_setdomainname,
    libc::SYS_sethostname,
    libc::SYS_setns,
    libc::SYS_swapoff,
    libc::SYS_swapon,
    libc::SYS_syslog,
    libc::SYS_umount2,
    libc::SYS_userfaultfd,
    libc::SYS_vhangup,
];
/// `open_tree_attr`, which is younger than the list of the C library; it has this number on every architecture.
const OPEN_TREE_ATTR: i64 = 467;
/// Calls that only x86 has: direct access to ports.
#[cfg(target_arch = "x86_64")]
const REFUSED_HERE: &[i64] = &[libc::SYS_iopl, libc::SYS_ioperm, libc::SYS_modify_ldt];
#[cfg(not(target_arch = "x86_64"))]
const REFUSED_HERE: &[i64] = &[];
/// Calls that change attributes of files, which Landlock does not know. Programs go on without them.
const ATTRIBUTES: &[i64] = &[
    libc::SYS_setxattr,
    libc::SYS_lsetxattr,
    libc::SYS_fsetxattr,
    libc::SYS_removexattr,
    libc::SYS_lremovexattr,
    libc::SYS_fremovexattr,
    // `setxattrat`, `removexattrat`, `file_setattr`: younger than the list of the C library.
    463,
    466,
    469,
];
/// Memory, semaphores and queues that processes of one user share by a number, where there is no IPC namespace.
const SHARED_BY_NUMBER: &[i64] = &[
    libc::SYS_mq_open,
    libc::SYS_mq_unlink,
    libc::SYS_msgctl,
    libc::SYS_msgget,
    libc::SYS_msgrcv,
    libc::SYS_msgsnd,
    libc::SYS_semctl,
    libc::SYS_semget,
    libc::SYS_semop,
    libc::SYS_semtimedop,
    libc::SYS_shmat,
    libc::SYS_shmctl,
    libc::SYS_shmget,
];
/// An argument of a call and its value.
type Argument = (u8, u64);
/// Calls that change another process of the user: the argument with its number, and the one that says what kind of
/// number it is, with the kind that means one process.
const OTHER_PROCESSES: &[(i64, u8, Option<Argument>)] = &[
    (libc::SYS_prlimit64, 0, None),
    (libc::SYS_setpriority, 1, Some((0, 0))),
    (libc::SYS_ioprio_set, 1, Some((0, 1))),
];
/// Calls that give a file its mode: the argument with the mode, and the one with the flags that say whether it counts.
/// A set-uid program of the user, or of root, would outlive the sandbox.
const MODE_CALLS: &[(i64, u8, Option<u8>)] = &[
    (libc::SYS_fchmod, 1, None),
    (libc::SYS_fchmodat, 2, None),
    (FCHMODAT2, 2, None),
    (libc::SYS_mknodat, 2, None),
    (libc::SYS_openat, 3, Some(2)),
];
/// The same calls that only x86 has.
#[cfg(target_arch = "x86_64")]
const MODE_CALLS_HERE: &[(i64, u8, Option<u8>)] =
    &[(libc::SYS_chmod, 1, None), (libc::SYS_creat, 1, None), (libc::SYS_mknod, 1, None), (libc::SYS_open, 2, Some(1))];
#[cfg(not(target_arch = "x86_64"))]
const MODE_CALLS_HERE: &[(i64, u8, Option<u8>)] = &[];
/// `fchmodat2`, which is younger than the list of the C library.
const FCHMODAT2: i64 = 452;
/// The bit of a mode that makes a program run as its owner.
const SET_UID: u64 = 0o4000;
/// Requests to a terminal that type into it, select in it, take its messages or change its driver; and, in the second
/// list, requests that change the flags of a file, which Landlock does not know.
const TERMINAL_REQUESTS: &[u64] = &[0x5412, 0x541C, 0x541D, 0x5423];
const FLAG_REQUESTS: &[u64] = &[0x4008_6602, 0x4004_6602, 0x401C_5820];
/// The flags of `clone` and `unshare` that create a namespace.
const NAMESPACE_FLAGS: &[u64] =
    &[0x0002_0000, 0x0200_0000, 0x0400_0000, 0x0800_0000, 0x1000_0000, 0x2000_0000, 0x4000_0000];
/// The flag of `unshare` for a time namespace. In `clone` the bit is part of a signal's number.
const NEW_TIME: u64 = 0x80;
/// Numbers from here on are those of the x32 table of x86, which a kernel may offer beside its own. No program here
/// uses the table, whose calls the other rules would not see.
const X32_START: u32 = 0x4000_0000;

/// Puts the filters in force for this thread, and for the processes that it starts.
pub(super) fn restrict(policy: &Policy, level: Level, own_processes: bool) -> Result<(), ConfineError> {
    let failed = |error: &dyn std::fmt::Display| ConfineError::new(Step::Seccomp, error.to_string());
    let mut filters = vec![
        (libc::EPERM, refused_calls(policy, level, own_processes)),
        // Programs then use `clone` and `openat`, whose flags a filter can read.
        (libc::ENOSYS, Ok(Rules::from([(libc::SYS_clone3, Vec::new()), (libc::SYS_openat2, Vec::new())]))),
    ];
    if level == Level::Basic {
        filters.push((libc::ENOTSUP, attribute_calls()));
    }
    if cfg!(target_arch = "x86_64") {
        apply_filter(&without_x32()).map_err(|error| failed(&error))?;
    }
    for (errno, rules) in filters {
        let program = rules.and_then(|rules| build(errno, rules)).map_err(|error| failed(&error))?;
        apply_filter(&program).map_err(|error| failed(&error))?;
    }
    Ok(())
}

fn build(errno: i32, rules: Rules) -> Built<BpfProgram> {
    let action = SeccompAction::Errno(errno.unsigned_abs());
    SeccompFilter::new(rules, SeccompAction::Allow, action, std::env::consts::ARCH.try_into()?)?.try_into()
}

/// Refuses every call of the x32 table. The crate can only compare numbers for equality, so this is written out: load
/// the number, compare, return the error or allow.
fn without_x32() -> BpfProgram {
    const LOAD: u16 = 0x20;
    const JUMP_IF_AT_LEAST: u16 = 0x35;
    const RETURN: u16 = 0x06;
    const ERROR: u32 = 0x0005_0000;
    const ALLOW: u32 = 0x7fff_0000;
    let line = |code, skip_if_less, k| sock_filter { code, jt: 0, jf: skip_if_less, k };
    vec![
        line(LOAD, 0, 0),
        line(JUMP_IF_AT_LEAST, 1, X32_START),
        line(RETURN, 0, ERROR | libc::EPERM.unsigned_abs()),
        line(RETURN, 0, ALLOW),
    ]
}

fn refused_calls(policy: &Policy, level: Level, own_processes: bool) -> Built<Rules> {
    let mut rules: Rules = REFUSED.iter().chain(REFUSED_HERE).map(|number| (*number, Vec::new())).collect();
    rules.insert(libc::SYS_ioctl, any_of(1, TERMINAL_REQUESTS.iter().map(|request| Eq.with(*request)))?);
    let flags = || NAMESPACE_FLAGS.iter().map(|flag| MaskedEq(*flag).with(*flag));
    rules.insert(libc::SYS_clone, any_of(0, flags())?);
    rules.insert(libc::SYS_unshare, any_of(0, flags().chain([MaskedEq(NEW_TIME).with(NEW_TIME)]))?);
    rules.insert(libc::SYS_socket, socket_rules(policy, level)?);
    rules.insert(libc::SYS_socketpair, pair_rules(policy)?);
    for (call, mode, flags) in MODE_CALLS.iter().chain(MODE_CALLS_HERE) {
        let creates = libc::O_CREAT.unsigned_abs().into();
        let flags = flags.map(|flags| condition(flags, MaskedEq(creates), creates)).transpose()?;
        let conditions = [condition(*mode, MaskedEq(SET_UID), SET_UID)?].into_iter().chain(flags).collect();
        rules.insert(*call, vec![SeccompRule::new(conditions)?]);
    }
    if level == Level::Basic {
        rules.extend(SHARED_BY_NUMBER.iter().map(|number| (*number, Vec::new())));
    }
    if !own_processes {
        for (call, process, kind) in OTHER_PROCESSES {
            let mut refused = any_of(*process, [Ne.with(0)])?;
            if let Some((argument, one_process)) = kind {
                refused.extend(any_of(*argument, [Ne.with(*one_process)])?);
            }
            rules.insert(*call, refused);
        }
    }
    Ok(rules)
}

/// Which sockets are refused: all but those of the allowed families.
fn socket_rules(policy: &Policy, level: Level) -> Built<Vec<SeccompRule>> {
    let has_internet = level == Level::Full || policy.network == Network::All;
    let mut families = Vec::new();
    if has_internet {
        // Programs list their interfaces with the family `AF_NETLINK`; only its protocol for that is allowed.
        families.extend([libc::AF_INET, libc::AF_INET6, libc::AF_NETLINK]);
    }
    if policy.unix_sockets {
        families.push(libc::AF_UNIX);
    }
    let other: Built<Vec<_>> = families.iter().map(|family| condition(0, Ne, family.unsigned_abs().into())).collect();
    let other = other?;
    if other.is_empty() {
        return Ok(Vec::new());
    }
    let netlink = [
        condition(0, Eq, libc::AF_NETLINK.unsigned_abs().into())?,
        condition(2, Ne, libc::NETLINK_ROUTE.unsigned_abs().into())?,
    ];
    let mut rules = vec![SeccompRule::new(other)?, SeccompRule::new(netlink.into())?];
    for family in [libc::AF_INET, libc::AF_INET6] {
        let raw = [
            condition(0, Eq, family.unsigned_abs().into())?,
            condition(1, MaskedEq(0xf), libc::SOCK_RAW.unsigned_abs().into())?,
        ];
        rules.push(SeccompRule::new(raw.into())?);
    }
    Ok(rules)
}

/// A pair of sockets for datagrams can send to any path, unlike a pair of streams. The kernel takes raw ones for such.
fn pair_rules(policy: &Policy) -> Built<Vec<SeccompRule>> {
    let kinds = if policy.unix_sockets { Vec::new() } else { vec![libc::SOCK_DGRAM, libc::SOCK_RAW] };
    let mut rules = any_of(1, kinds.iter().map(|kind| MaskedEq(0xf).with(kind.unsigned_abs().into())))?;
    rules.push(SeccompRule::new(vec![condition(0, Ne, libc::AF_UNIX.unsigned_abs().into())?])?);
    Ok(rules)
}

fn attribute_calls() -> Built<Rules> {
    let mut rules: Rules = ATTRIBUTES.iter().map(|number| (*number, Vec::new())).collect();
    rules.insert(libc::SYS_ioctl, any_of(1, FLAG_REQUESTS.iter().map(|request| Eq.with(*request)))?);
    Ok(rules)
}

/// A comparison and its value.
type Comparison = (SeccompCmpOp, u64);

trait WithValue {
    fn with(self, value: u64) -> Comparison;
}

impl WithValue for SeccompCmpOp {
    fn with(self, value: u64) -> Comparison {
        (self, value)
    }
}

/// Rules of which one must match an argument.
fn any_of(argument: u8, comparisons: impl IntoIterator<Item = Comparison>) -> Built<Vec<SeccompRule>> {
    let rule = |(operator, value)| SeccompRule::new(vec![condition(argument, operator, value)?]);
    comparisons.into_iter().map(rule).collect()
}

/// Compares the lower half of an argument: the kernel ignores or refuses the upper half of those compared here.
fn condition(argument: u8, operator: SeccompCmpOp, value: u64) -> Built<SeccompCondition> {
    SeccompCondition::new(argument, Dword, operator, value)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_filters_can_be_built_for_every_policy() {
        for level in [Level::Basic, Level::Full] {
            for network in [Network::None, Network::All] {
                for unix_sockets in [false, true] {
                    let policy = Policy { network: network.clone(), unix_sockets, ..Policy::default() };
                    let program = build(1, refused_calls(&policy, level, false).unwrap()).unwrap();
                    assert!(program.len() < 4096, "{}", program.len());
                }
            }
        }
        build(1, attribute_calls().unwrap()).unwrap();
    }
}
