//! The seccomp filters: they make the kernel refuse some system calls of a program.

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
type FilterResult<T> = Result<T, seccompiler::BackendError>;

/// Calls that change the machine, inspect other processes, or circumvent the other layers.
const DENIED_CALLS: &[i64] = &[
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
/// `open_tree_attr`: the `libc` crate does not define it yet. It has the same number on every architecture.
const OPEN_TREE_ATTR: i64 = 467;
/// Calls that exist only on x86: access to I/O ports and to the descriptor table.
#[cfg(target_arch = "x86_64")]
const DENIED_CALLS_OF_ARCH: &[i64] = &[libc::SYS_iopl, libc::SYS_ioperm, libc::SYS_modify_ldt];
#[cfg(not(target_arch = "x86_64"))]
const DENIED_CALLS_OF_ARCH: &[i64] = &[];
/// Calls that change file attributes, which Landlock does not restrict. Programs can work without them.
const ATTRIBUTE_CALLS: &[i64] = &[
    libc::SYS_setxattr,
    libc::SYS_lsetxattr,
    libc::SYS_fsetxattr,
    libc::SYS_removexattr,
    libc::SYS_lremovexattr,
    libc::SYS_fremovexattr,
    // `setxattrat`, `removexattrat` and `file_setattr`: the `libc` crate does not define them yet.
    463,
    466,
    469,
];
/// Calls for shared memory, semaphores and message queues. Without an IPC namespace, the program could access those of
/// other processes.
const IPC_CALLS: &[i64] = &[
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
/// The index of an argument of a call, and a value.
type Argument = (u8, u64);
/// Calls that can change another process of the user: the call, the index of the argument with the process id, and the
/// argument with the kind of this id, with the value for a single process.
const PROCESS_CALLS: &[(i64, u8, Option<Argument>)] = &[
    (libc::SYS_prlimit64, 0, None),
    (libc::SYS_setpriority, 1, Some((0, 0))),
    (libc::SYS_ioprio_set, 1, Some((0, 1))),
];
/// Calls that set the mode of a file: the call, the index of the argument with the mode, and the index of the argument
/// with the flags, if the mode counts only with `O_CREAT`. A set-uid program that the program creates would remain
/// after the sandbox ends.
const MODE_CALLS: &[(i64, u8, Option<u8>)] = &[
    (libc::SYS_fchmod, 1, None),
    (libc::SYS_fchmodat, 2, None),
    (FCHMODAT2, 2, None),
    (libc::SYS_mknodat, 2, None),
    (libc::SYS_openat, 3, Some(2)),
];
/// Such calls that exist only on x86.
#[cfg(target_arch = "x86_64")]
const MODE_CALLS_OF_ARCH: &[(i64, u8, Option<u8>)] =
    &[(libc::SYS_chmod, 1, None), (libc::SYS_creat, 1, None), (libc::SYS_mknod, 1, None), (libc::SYS_open, 2, Some(1))];
#[cfg(not(target_arch = "x86_64"))]
const MODE_CALLS_OF_ARCH: &[(i64, u8, Option<u8>)] = &[];
/// `fchmodat2`: the `libc` crate does not define it yet.
const FCHMODAT2: i64 = 452;
/// The mode bit that makes an executable run as its owner.
const SET_UID: u64 = 0o4000;
/// Requests that control a terminal: `TIOCSTI` (simulates input), `TIOCLINUX` (selects and pastes text), `TIOCCONS`
/// (redirects console messages) and `TIOCSETD` (changes the line discipline).
const TERMINAL_REQUESTS: &[u64] = &[0x5412, 0x541C, 0x541D, 0x5423];
/// Requests that change the flags of a file, which Landlock does not restrict: `FS_IOC_SETFLAGS`, the same request of
/// 32-bit programs, and `FS_IOC_FSSETXATTR`.
const FLAG_REQUESTS: &[u64] = &[0x4008_6602, 0x4004_6602, 0x401C_5820];
/// The flags of `clone` and `unshare` that create a namespace.
const NAMESPACE_FLAGS: &[u64] =
    &[0x0002_0000, 0x0200_0000, 0x0400_0000, 0x0800_0000, 0x1000_0000, 0x2000_0000, 0x4000_0000];
/// The flag of `unshare` for a time namespace. In the flags of `clone`, this bit is part of the signal number.
const NEW_TIME: u64 = 0x80;
/// The first number of the x32 system calls, which some x86 kernels offer in addition. The other rules do not match
/// these numbers.
const X32_START: u32 = 0x4000_0000;

/// Installs the filters for this thread and the processes that it starts.
pub(super) fn restrict(policy: &Policy, level: Level, has_pid_namespace: bool) -> Result<(), ConfineError> {
    let filter_error = |error: &dyn std::fmt::Display| ConfineError::new(Step::Seccomp, error.to_string());
    let mut filters = vec![
        (libc::EPERM, denied_calls(policy, level, has_pid_namespace)),
        // Without these calls, programs use `clone` and `openat` instead, whose flags a filter can read.
        (libc::ENOSYS, Ok(Rules::from([(libc::SYS_clone3, Vec::new()), (libc::SYS_openat2, Vec::new())]))),
    ];
    if level == Level::Basic {
        filters.push((libc::ENOTSUP, attribute_calls()));
    }
    if cfg!(target_arch = "x86_64") {
        apply_filter(&deny_x32_calls()).map_err(|error| filter_error(&error))?;
    }
    for (errno, rules) in filters {
        let program = rules.and_then(|rules| build(errno, rules)).map_err(|error| filter_error(&error))?;
        apply_filter(&program).map_err(|error| filter_error(&error))?;
    }
    Ok(())
}

/// Builds a filter that returns an error number for the calls that match the rules.
fn build(errno: i32, rules: Rules) -> FilterResult<BpfProgram> {
    let action = SeccompAction::Errno(errno.unsigned_abs());
    SeccompFilter::new(rules, SeccompAction::Allow, action, std::env::consts::ARCH.try_into()?)?.try_into()
}

/// Builds a filter that refuses all x32 calls. `seccompiler` compares call numbers only for equality, so this function
/// writes the instructions itself: load the number, compare it, and return an error or allow the call.
fn deny_x32_calls() -> BpfProgram {
    const LOAD: u16 = 0x20;
    const JUMP_IF_AT_LEAST: u16 = 0x35;
    const RETURN: u16 = 0x06;
    const ERROR: u32 = 0x0005_0000;
    const ALLOW: u32 = 0x7fff_0000;
    let instruction = |code, skip_if_less, k| sock_filter { code, jt: 0, jf: skip_if_less, k };
    vec![
        instruction(LOAD, 0, 0),
        instruction(JUMP_IF_AT_LEAST, 1, X32_START),
        instruction(RETURN, 0, ERROR | libc::EPERM.unsigned_abs()),
        instruction(RETURN, 0, ALLOW),
    ]
}

fn denied_calls(policy: &Policy, level: Level, has_pid_namespace: bool) -> FilterResult<Rules> {
    let mut rules: Rules =
        DENIED_CALLS.iter().chain(DENIED_CALLS_OF_ARCH).map(|number| (*number, Vec::new())).collect();
    rules.insert(libc::SYS_ioctl, any_of(1, TERMINAL_REQUESTS.iter().map(|request| Eq.with(*request)))?);
    let flags = || NAMESPACE_FLAGS.iter().map(|flag| MaskedEq(*flag).with(*flag));
    rules.insert(libc::SYS_clone, any_of(0, flags())?);
    rules.insert(libc::SYS_unshare, any_of(0, flags().chain([MaskedEq(NEW_TIME).with(NEW_TIME)]))?);
    rules.insert(libc::SYS_socket, socket_rules(policy, level)?);
    rules.insert(libc::SYS_socketpair, pair_rules(policy)?);
    for (call, mode, flags) in MODE_CALLS.iter().chain(MODE_CALLS_OF_ARCH) {
        let create_flag = libc::O_CREAT.unsigned_abs().into();
        let flags = flags.map(|flags| condition(flags, MaskedEq(create_flag), create_flag)).transpose()?;
        let conditions = [condition(*mode, MaskedEq(SET_UID), SET_UID)?].into_iter().chain(flags).collect();
        rules.insert(*call, vec![SeccompRule::new(conditions)?]);
    }
    if level == Level::Basic {
        rules.extend(IPC_CALLS.iter().map(|number| (*number, Vec::new())));
    }
    if !has_pid_namespace {
        for (call, process_id, kind) in PROCESS_CALLS {
            // The process id 0 means the calling process itself.
            let mut denied = any_of(*process_id, [Ne.with(0)])?;
            if let Some((argument, single_process)) = kind {
                denied.extend(any_of(*argument, [Ne.with(*single_process)])?);
            }
            rules.insert(*call, denied);
        }
    }
    Ok(rules)
}

/// The rules that refuse sockets of all families except the allowed families, and raw sockets.
fn socket_rules(policy: &Policy, level: Level) -> FilterResult<Vec<SeccompRule>> {
    let allows_internet = level == Level::Full || policy.network == Network::All;
    let mut families = Vec::new();
    if allows_internet {
        // Programs need `AF_NETLINK` to list their network interfaces; a rule below allows only the protocol for this.
        families.extend([libc::AF_INET, libc::AF_INET6, libc::AF_NETLINK]);
    }
    if policy.unix_sockets {
        families.push(libc::AF_UNIX);
    }
    let is_other_family: FilterResult<Vec<_>> =
        families.iter().map(|family| condition(0, Ne, family.unsigned_abs().into())).collect();
    let is_other_family = is_other_family?;
    if is_other_family.is_empty() {
        return Ok(Vec::new());
    }
    let netlink = [
        condition(0, Eq, libc::AF_NETLINK.unsigned_abs().into())?,
        condition(2, Ne, libc::NETLINK_ROUTE.unsigned_abs().into())?,
    ];
    let mut rules = vec![SeccompRule::new(is_other_family)?, SeccompRule::new(netlink.into())?];
    for family in [libc::AF_INET, libc::AF_INET6] {
        let raw = [
            condition(0, Eq, family.unsigned_abs().into())?,
            condition(1, MaskedEq(0xf), libc::SOCK_RAW.unsigned_abs().into())?,
        ];
        rules.push(SeccompRule::new(raw.into())?);
    }
    Ok(rules)
}

/// The rules for socket pairs. They refuse datagram sockets, because these can send to the path of any socket. The
/// kernel treats raw sockets as datagram sockets.
fn pair_rules(policy: &Policy) -> FilterResult<Vec<SeccompRule>> {
    let kinds = if policy.unix_sockets { Vec::new() } else { vec![libc::SOCK_DGRAM, libc::SOCK_RAW] };
    let mut rules = any_of(1, kinds.iter().map(|kind| MaskedEq(0xf).with(kind.unsigned_abs().into())))?;
    rules.push(SeccompRule::new(vec![condition(0, Ne, libc::AF_UNIX.unsigned_abs().into())?])?);
    Ok(rules)
}

fn attribute_calls() -> FilterResult<Rules> {
    let mut rules: Rules = ATTRIBUTE_CALLS.iter().map(|number| (*number, Vec::new())).collect();
    rules.insert(libc::SYS_ioctl, any_of(1, FLAG_REQUESTS.iter().map(|request| Eq.with(*request)))?);
    Ok(rules)
}

/// A comparison operator and the value to compare with.
type Comparison = (SeccompCmpOp, u64);

trait WithValue {
    fn with(self, value: u64) -> Comparison;
}

impl WithValue for SeccompCmpOp {
    fn with(self, value: u64) -> Comparison {
        (self, value)
    }
}

/// Rules that match if any of the comparisons is true for an argument.
fn any_of(argument: u8, comparisons: impl IntoIterator<Item = Comparison>) -> FilterResult<Vec<SeccompRule>> {
    let rule = |(operator, value)| SeccompRule::new(vec![condition(argument, operator, value)?]);
    comparisons.into_iter().map(rule).collect()
}

/// Compares the lower 32 bits of an argument. The kernel ignores or refuses the upper bits of all arguments that this
/// module compares.
fn condition(argument: u8, operator: SeccompCmpOp, value: u64) -> FilterResult<SeccompCondition> {
    SeccompCondition::new(argument, Dword, operator, value)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn filters_can_be_built_for_every_policy() {
        for level in [Level::Basic, Level::Full] {
            for network in [Network::None, Network::All] {
                for unix_sockets in [false, true] {
                    let policy = Policy { network: network.clone(), unix_sockets, ..Policy::default() };
                    let program = build(1, denied_calls(&policy, level, false).unwrap()).unwrap();
                    assert!(program.len() < 4096, "{}", program.len());
                }
            }
        }
        build(1, attribute_calls().unwrap()).unwrap();
    }
}
