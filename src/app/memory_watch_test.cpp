#include "app/memory_watch.h"

#include <map>

#include <gtest/gtest.h>

namespace hearth::app {
namespace {

using serving::Pressure;

constexpr std::uint64_t kGiB = 1ULL << 30;

struct Kernel {
    std::map<std::string, std::string> files{
        {"/proc/meminfo", "MemTotal:       16777216 kB\nMemFree: 1 kB\nMemAvailable:   8388608 kB\n"}};
    [[nodiscard]] ReadFile reader() const {
        return [this](std::string const& path) -> std::optional<std::string> {
            auto const found = files.find(path);
            return found == files.end() ? std::nullopt : std::optional(found->second);
        };
    }
    [[nodiscard]] MemorySigns signs() const { return read_memory_signs(reader()); }
    void group(std::string const& folder, std::uint64_t limit, std::uint64_t used, std::uint64_t cold) {
        files[folder + "/memory.max"] = std::to_string(limit) + "\n";
        files[folder + "/memory.current"] = std::to_string(used) + "\n";
        files[folder + "/memory.stat"] = "anon 1\ninactive_file " + std::to_string(cold) + "\nactive_file 5\n";
    }
};

TEST(MemorySigns, AreThoseOfTheMachineWithoutALimit) {
    Kernel kernel;
    kernel.files["/proc/self/cgroup"] = "0::/user.slice\n";
    kernel.files["/sys/fs/cgroup/user.slice/memory.max"] = "max\n";
    kernel.files["/sys/fs/cgroup/user.slice/memory.current"] = "77\n";
    auto const signs = kernel.signs();
    EXPECT_EQ(signs.limit, 0U);
    EXPECT_EQ(signs.machine_total, 16 * kGiB);
    EXPECT_EQ(signs.machine_available, 8 * kGiB);
    EXPECT_EQ(automatic_budget(signs), 16 * kGiB / 5 * 4);
    EXPECT_EQ(judge(signs), Pressure::none);
    EXPECT_EQ(read_memory_signs([](auto const&) { return std::nullopt; }), MemorySigns{});
}

TEST(MemorySigns, TakeTheTightestGroupOfVersionTwo) {
    Kernel kernel;
    kernel.files["/proc/self/cgroup"] = "0::/a/b\n";
    kernel.group("/sys/fs/cgroup/a/b", 8 * kGiB, 2 * kGiB, kGiB);
    kernel.group("/sys/fs/cgroup/a", 4 * kGiB, 3 * kGiB, kGiB);
    kernel.files["/sys/fs/cgroup/a/b/memory.pressure"] =
        "some avg10=12.50 avg60=0.00 avg300=0.00 total=9\nfull avg10=3.25 avg60=0.00 avg300=0.00 total=9\n";
    auto const signs = kernel.signs();
    EXPECT_EQ(signs.limit, 4 * kGiB);
    EXPECT_EQ(signs.used, 2 * kGiB) << "page cache that is cold is left";
    EXPECT_DOUBLE_EQ(signs.stalled_some, 12.5);
    EXPECT_DOUBLE_EQ(signs.stalled_full, 3.25);
    EXPECT_EQ(automatic_budget(signs), 4 * kGiB / 10 * 9);
}

TEST(AutomaticBudget, IsAPartOfWhatTheGroupAllowsAndTheMachineHas) {
    EXPECT_EQ(automatic_budget({.limit = 1000, .machine_total = 10'000}), 900U);
    EXPECT_EQ(automatic_budget({.limit = 10'000, .machine_total = 1000}), 800U) << "a limit that is none";
    EXPECT_EQ(automatic_budget({.machine_total = 1000}), 800U);
    EXPECT_EQ(automatic_budget({.limit = 1000}), 900U);
    EXPECT_EQ(automatic_budget({}), 0U) << "nobody says";
}

TEST(MemorySigns, KnowVersionOneAndItsNumberForNoLimit) {
    Kernel kernel;
    kernel.files["/proc/self/cgroup"] = "5:cpu:/x\n4:memory:/box\n0::/\n";
    kernel.files["/sys/fs/cgroup/memory/box/memory.limit_in_bytes"] = "1073741824\n";
    kernel.files["/sys/fs/cgroup/memory/box/memory.usage_in_bytes"] = "1000000000\n";
    kernel.files["/sys/fs/cgroup/memory/box/memory.stat"] = "inactive_file 1\ntotal_inactive_file 400000000\n";
    kernel.files["/sys/fs/cgroup/memory/memory.limit_in_bytes"] = "9223372036854771712\n";
    kernel.files["/sys/fs/cgroup/memory/memory.usage_in_bytes"] = "5\n";
    auto const signs = kernel.signs();
    EXPECT_EQ(signs.limit, kGiB);
    EXPECT_EQ(signs.used, 600'000'000U);
}

TEST(Pressure, IsJudgedByWhatIsLeftAndByStalls) {
    MemorySigns signs{.limit = 1000, .used = 850};
    EXPECT_EQ(judge(signs), Pressure::none);
    signs.used = 901;
    EXPECT_EQ(judge(signs), Pressure::some);
    signs.used = 951;
    EXPECT_EQ(judge(signs), Pressure::high);
    signs.used = 2000;
    EXPECT_EQ(judge(signs), Pressure::high);
    EXPECT_EQ(judge({.machine_total = 1000, .machine_available = 99}), Pressure::some);
    EXPECT_EQ(judge({.machine_total = 1000, .machine_available = 49}), Pressure::high);
    EXPECT_EQ(judge({.stalled_some = 20}), Pressure::some);
    EXPECT_EQ(judge({.stalled_some = 90, .stalled_full = 10}), Pressure::high);
}

class MemoryWatchTest : public ::testing::Test {
protected:
    MemoryWatchTest() {
        kernel.files["/proc/self/cgroup"] = "0::/\n";
        clock.advance(std::chrono::hours(1));
        use(100);
    }
    void use(std::uint64_t bytes) { kernel.group("/sys/fs/cgroup", 1000, bytes, 0); }
    void stall(std::string const& full) {
        kernel.files["/proc/pressure/memory"] = "some avg10=0.00 \nfull avg10=" + full + " \n";
    }
    Pressure look() { return watch.look(clock.now()); }

    Kernel kernel;
    ManualClock clock;
    MemoryWatch watch{kernel.reader()};
};

TEST_F(MemoryWatchTest, RaisesAtOnceAndIsHighOnlyWhileItIs) {
    EXPECT_EQ(look(), Pressure::none);
    use(990);
    EXPECT_EQ(look(), Pressure::high);
    clock.advance(MemoryWatch::kCalm / 10);
    EXPECT_EQ(look(), Pressure::high) << "it is so still";
    use(920);
    EXPECT_EQ(look(), Pressure::some) << "no more models are to go";
    use(100);
    clock.advance(MemoryWatch::kCalm / 2);
    EXPECT_EQ(look(), Pressure::some) << "calm only now";
    clock.advance(MemoryWatch::kCalm / 2);
    EXPECT_EQ(look(), Pressure::none);
}

TEST_F(MemoryWatchTest, OldStallsAreNotSaidTwice) {
    stall("15.00");
    EXPECT_EQ(look(), Pressure::high);
    clock.advance(MemoryWatch::kStallWindow / 2);
    EXPECT_EQ(look(), Pressure::some) << "these may be the same ones";
    use(990);
    EXPECT_EQ(look(), Pressure::high) << "what is left is of this moment";
    use(100);
    clock.advance(MemoryWatch::kStallWindow / 2);
    EXPECT_EQ(look(), Pressure::high);
    stall("0.00");
    EXPECT_EQ(look(), Pressure::some);
}

TEST(FreeForModels, IsTheLeastOfWhatAnybodyAllows) {
    MemorySigns signs;
    EXPECT_EQ(free_for_models(signs, 0), 0U) << "nobody says";
    EXPECT_EQ(free_for_models(signs, 7), 7U);
    signs.machine_available = 100;
    EXPECT_EQ(free_for_models(signs, 0), 100U);
    EXPECT_EQ(free_for_models(signs, 60), 60U);
    signs.limit = 90;
    signs.used = 50;
    EXPECT_EQ(free_for_models(signs, 60), 40U) << "the group has less left";
    signs.used = 95;
    EXPECT_EQ(free_for_models(signs, 60), 0U);
}

}  // namespace
}  // namespace hearth::app
