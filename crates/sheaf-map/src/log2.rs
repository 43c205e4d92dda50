//! How far a score lies below the highest possible one, in whole numbers.
//!
//! Decides no order by itself. Never uses floats: two machines that round differently would place points differently.

use std::sync::LazyLock;

/// Bits after the binary point of a logarithm: 64 times 2^57 still fits in 64 bits.
const FRACTION_BITS: u32 = 57;
/// Bits of the mantissa that choose an interval: 4,096 intervals.
const INTERVAL_BITS: u32 = 12;
/// Bits of the mantissa below those: where in the interval.
const REST_BITS: u32 = 63 - INTERVAL_BITS;
const INTERVALS: usize = 1 << INTERVAL_BITS;

/// `log2(1 + i/4096)` at both ends of every interval. Built once, at the first comparison of unequal weights.
static TABLE: LazyLock<Box<[u64]>> =
    LazyLock::new(|| (0..=INTERVALS).map(|i| log2_of_node(i as u64)).collect());

/// `-log2((x + 1) / 2^64)` in units of 2^-57: 0 for the highest score, 64 for the lowest.
///
/// Straight lines between the nodes of the table, so it never rises when `x` does; off by at most one part in 2^14.
pub(crate) fn depth(x: u64) -> u64 {
    let Some(y) = x.checked_add(1) else {
        return 0; // (x + 1) / 2^64 is 1.
    };
    let zeros = y.leading_zeros();
    let mantissa = (y << zeros) & (u64::MAX >> 1);
    let interval = (mantissa >> REST_BITS) as usize;
    let rest = mantissa & ((1 << REST_BITS) - 1);
    let (low, high) = (TABLE[interval], TABLE[interval + 1]);
    let above_low = (u128::from(high - low) * u128::from(rest)) >> REST_BITS;
    // log2(y) is 63 - zeros + log2(mantissa), and 64 minus that is what was asked for.
    (u64::from(zeros + 1) << FRACTION_BITS) - low - above_low as u64
}

/// `log2(1 + node/4096)` in units of 2^-57, bit by bit: squaring a number doubles its logarithm.
///
/// Rounded down, and at most one unit lower than that.
fn log2_of_node(node: u64) -> u64 {
    if node as usize == INTERVALS {
        return 1 << FRACTION_BITS; // log2(2), a number that has no room below.
    }
    // At least 1, less than 2, with 63 bits after the point.
    let mut number = (1 << 63) | (node << REST_BITS);
    let mut log = 0;
    for _ in 0..FRACTION_BITS {
        let square = u128::from(number) * u128::from(number);
        let doubled = square >> 127 != 0; // 2 or more: this bit of the logarithm is 1.
        log = log << 1 | u64::from(doubled);
        number = (square >> if doubled { 64 } else { 63 }) as u64;
    }
    log
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Both ends, every node of the table in every octave, and the numbers beside them; ascending.
    fn edges() -> Vec<u64> {
        let mut edges = vec![0, u64::MAX];
        for octave in 0..64 {
            for interval in 0..INTERVALS as u128 {
                let node = ((1 << octave) * (INTERVALS as u128 + interval)) >> INTERVAL_BITS;
                let beside = [node.wrapping_sub(2), node.wrapping_sub(1), node];
                edges.extend(beside.into_iter().filter_map(|x| u64::try_from(x).ok()));
            }
        }
        edges.sort_unstable();
        edges.dedup();
        edges
    }

    #[test]
    fn the_depth_never_rises_with_the_score() {
        let edges = edges();
        assert!(edges.is_sorted_by(|&a, &b| depth(a) >= depth(b)));
        assert_eq!(depth(0), 64 << FRACTION_BITS);
        assert_eq!(depth(u64::MAX), 0);
        assert_eq!(
            depth((1 << 63) - 1),
            1 << FRACTION_BITS,
            "half of the range is one doubling down"
        );
    }

    #[test]
    fn the_depth_is_the_logarithm_to_one_part_in_16_000() {
        for x in edges().into_iter().filter(|&x| x < u64::MAX - (1 << 20)) {
            // ln_1p keeps its precision near the top, where owners are found.
            let below = ((u64::MAX - x) as f64) / 2f64.powi(64);
            let exact = if below < 0.5 {
                -(-below).ln_1p() / std::f64::consts::LN_2
            } else {
                64.0 - ((x + 1) as f64).log2()
            };
            let ours = depth(x) as f64 / (1_u64 << FRACTION_BITS) as f64;
            assert!((ours - exact).abs() <= exact / 16_000.0, "{x}: {ours} is not {exact}");
        }
    }

    /// A table that changes in a single bit could move points between shards of an existing cluster.
    /// Another program compared it with exact logarithms: 8 of 4,097 are one unit too low, the others are right.
    #[test]
    fn the_table_never_changes() {
        let fold = |sum: u64, entry: &u64| (sum ^ entry).wrapping_mul(0x0000_0100_0000_01b3);
        assert_eq!(TABLE.iter().fold(0xcbf2_9ce4_8422_2325, fold), 0xd78d_02dc_8244_863e);
        assert_eq!(TABLE.len(), INTERVALS + 1);
    }
}
