#include "bench/machine.h"

#include <gtest/gtest.h>
#include <nlohmann/json.hpp>

#include <set>

#include "bench/machine_kernels.h"

namespace hearth::bench {
namespace {

TEST(Machine, MeasuresEveryFigureOnEveryCore) {
    MachineOptions options;
    options.memory_mib = 64;
    options.sample_ms = 2;
    options.samples = 2;
    auto const report = run_machine(options);
    ASSERT_TRUE(report) << report.error().message;
    std::set<std::string> names;
    for (auto const& f : report->figures) {
        names.insert(f.name);
        EXPECT_GT(f.all, 0) << f.name;
        EXPECT_EQ(f.single.size(), std::min(report->cores, kCoresSingleMax)) << f.name;
        for (auto one : f.single) EXPECT_GT(one, 0) << f.name;
    }
    for (auto name : {"fp32", "read-l1", "read-l2", "read-32m", "read-memory"})
        EXPECT_TRUE(names.contains(name)) << name;
    auto const json = nlohmann::json::parse(to_json(*report));
    EXPECT_EQ(json["figures"]["fp32"]["unit"], "Gop/s");
    EXPECT_EQ(json["cores"], report->cores);
    EXPECT_NE(to_text(*report).find("read-memory"), std::string::npos);
}

TEST(Machine, EveryKernelDoesItsWork) {
    for (auto const& kernel : arithmetic_kernels()) {
        EXPECT_GT(kernel.operations, 0) << kernel.name;
        EXPECT_NE(kernel.loop(10), 0U) << kernel.method;
    }
    alignas(64) std::byte data[2 * kReadBlock] = {};
    EXPECT_EQ(read_loop()(data, sizeof data), 0U);
    data[kReadBlock + 8] = std::byte{1};
    EXPECT_NE(read_loop()(data, sizeof data), 0U) << "every byte is read";
}

TEST(Machine, OptionsOutOfRangeQuoteTheLimit) {
    MachineOptions options;
    options.memory_mib = 1;
    auto const report = run_machine(options);
    ASSERT_FALSE(report);
    EXPECT_EQ(report.error().param, "memory-mib");
    EXPECT_NE(report.error().message.find("64 to 16384, got 1"), std::string::npos) << report.error().message;
}

}  // namespace
}  // namespace hearth::bench
