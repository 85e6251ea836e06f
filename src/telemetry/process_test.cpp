#include "telemetry/process.h"

#include <gtest/gtest.h>
#include <unistd.h>

#include <charconv>
#include <chrono>

namespace hearth::telemetry {
namespace {

double value_of(std::string const& text, std::string const& name) {
    auto const at = text.find("\n" + name + " ");
    EXPECT_NE(at, std::string::npos) << name;
    double value = -1;
    if (at != std::string::npos) std::from_chars(text.data() + at + name.size() + 2, text.data() + text.size(), value);
    return value;
}

TEST(ProcessMetrics, FollowTheProcess) {
    Registry registry;
    add_process_metrics(registry);
    std::string text = registry.render();
    double const now = std::chrono::duration<double>(std::chrono::system_clock::now().time_since_epoch()).count();
    EXPECT_GT(value_of(text, "process_resident_memory_bytes"), 1e6);
    EXPECT_GE(value_of(text, "process_virtual_memory_bytes"), value_of(text, "process_resident_memory_bytes"));
    EXPECT_LE(value_of(text, "process_start_time_seconds"), now + 1);
    EXPECT_GT(value_of(text, "process_start_time_seconds"), now - 3600);
    EXPECT_GE(value_of(text, "process_threads"), 1);
    EXPECT_NE(text.find("# TYPE process_cpu_seconds_total counter"), std::string::npos);

    double const open = value_of(text, "process_open_fds");
    double const cpu = value_of(text, "process_cpu_seconds_total");
    int ends[2];
    ASSERT_EQ(::pipe(ends), 0);
    double volatile work = 0;
    for (int i = 0; i < 3'000'000; ++i) work = work + i;
    text = registry.render();
    EXPECT_EQ(value_of(text, "process_open_fds"), open + 2);
    EXPECT_GT(value_of(text, "process_cpu_seconds_total"), cpu);
    EXPECT_GT(value_of(text, "process_max_fds"), open);
    ::close(ends[0]);
    ::close(ends[1]);
}

}  // namespace
}  // namespace hearth::telemetry
