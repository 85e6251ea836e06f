// run_machine(): what this machine can do at most, so that a figure can be read
// as a share of the possible.
//
// Read bandwidth is measured over working sets from L1-sized to far beyond the
// caches, arithmetic with chains of independent multiply-adds that touch no
// memory: INT8 dot products (VNNI where there is one), BF16 dot products, FP32
// fused multiply-add. Each once per core, with the others idle, and on all
// cores together. The widest instructions of this CPU are chosen at run time;
// the report names them.
//
// Threads: starts one per measured core, pinned, and joins them. Takes a few
// seconds; other work on the machine spoils the figures, and spread_percent
// shows it. Limits: kCoresMax cores, memory_mib of memory (less when the
// machine has less than four times that free).
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>
#include <vector>

#include "base/result.h"

namespace hearth::bench {

inline constexpr std::size_t kCoresMax = 256;       // measured together
inline constexpr std::size_t kCoresSingleMax = 16;  // measured one by one

struct MachineOptions {
    std::uint32_t memory_mib = 1024;  // the working set for "memory"; 64 to 16384
    std::uint32_t sample_ms = 60;     // of one sample; 1 to 10000
    std::uint32_t samples = 5;        // per figure; the best counts, since a limit is what was reached; 1 to 100
};

[[nodiscard]] Status check(MachineOptions const& options);

struct MachineFigure {
    std::string name;            // e.g. "int8", "read-memory"
    std::string method;          // the instruction or the working set
    std::string unit;            // "Gop/s" or "GB/s"; a multiply-add is two operations
    std::vector<double> single;  // per core, alone; at most kCoresSingleMax
    double all = 0;              // all cores together
    double spread_percent = 0;   // (max - min) / median of the samples of `all`
};

struct MachineReport {
    std::string cpu;
    std::string date;  // UTC, ISO 8601
    std::size_t cores = 0;
    std::uint64_t memory_total_mib = 0;
    std::string features;  // instruction sets that matter here, space between
    std::vector<MachineFigure> figures;
    double seconds = 0;
};

[[nodiscard]] Result<MachineReport> run_machine(MachineOptions const& options);

[[nodiscard]] std::string to_json(MachineReport const& report);
[[nodiscard]] std::string to_text(MachineReport const& report);

}  // namespace hearth::bench
