#include "telemetry/metrics.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <limits>
#include <thread>

namespace hearth::telemetry {
namespace {

TEST(Metrics, FamiliesAreRenderedWithHelpTypeAndLabels) {
    Registry registry;
    registry.counter("hearth_b_total", "Second.", {"route", "status"}, {"/v1/x", "200"}).add(3);
    registry.counter("hearth_b_total", "Second.", {"route", "status"}, {"/v1/x", "404"}).add();
    registry.gauge("hearth_a", "First.").set(-1.5);
    EXPECT_EQ(registry.render(),
              "# HELP hearth_a First.\n# TYPE hearth_a gauge\nhearth_a -1.5\n"
              "# HELP hearth_b_total Second.\n# TYPE hearth_b_total counter\n"
              "hearth_b_total{route=\"/v1/x\",status=\"200\"} 3\nhearth_b_total{route=\"/v1/x\",status=\"404\"} 1\n");
}

TEST(Metrics, AHistogramIsCumulativeAndIncludesItsBounds) {
    Registry registry;
    auto& histogram = registry.histogram("h_seconds", "Times.", {0.1, 1, 10}, {"m"}, {"x"});
    for (double const v : {0.05, 0.1, 0.5, 1.0, 5.0, 100.0}) histogram.observe(v);
    EXPECT_EQ(histogram.count(), 6U);
    EXPECT_EQ(registry.render(),
              "# HELP h_seconds Times.\n# TYPE h_seconds histogram\n"
              "h_seconds_bucket{m=\"x\",le=\"0.1\"} 2\nh_seconds_bucket{m=\"x\",le=\"1\"} 4\n"
              "h_seconds_bucket{m=\"x\",le=\"10\"} 5\nh_seconds_bucket{m=\"x\",le=\"+Inf\"} 6\n"
              "h_seconds_sum{m=\"x\"} 106.65\nh_seconds_count{m=\"x\"} 6\n");
}

TEST(Metrics, HelpAndLabelValuesAreEscaped) {
    Registry registry;
    registry.gauge("g", "back\\slash \"and\"\nnewline", {"l"}, {"a\\b\"c\nd"}).set(1);
    EXPECT_EQ(registry.render(),
              "# HELP g back\\\\slash \"and\"\\nnewline\n# TYPE g gauge\ng{l=\"a\\\\b\\\"c\\nd\"} 1\n");
}

TEST(Metrics, NumbersThatAreNoneAreSpelledAsPrometheusDoes) {
    Registry registry;
    registry.gauge("a", "x").set(std::numeric_limits<double>::infinity());
    registry.gauge("b", "x").set(-std::numeric_limits<double>::infinity());
    registry.gauge("c", "x").set(std::nan(""));
    std::string const text = registry.render();
    EXPECT_NE(text.find("a +Inf\n"), std::string::npos);
    EXPECT_NE(text.find("b -Inf\n"), std::string::npos);
    EXPECT_NE(text.find("c NaN\n"), std::string::npos);
}

TEST(Metrics, AChildIsTheSameObjectEachTime) {
    Registry registry;
    auto& first = registry.counter("c_total", "x", {"l"}, {"v"});
    for (int i = 0; i < 100; ++i) registry.counter("c_total", "x", {"l"}, {std::to_string(i)});
    EXPECT_EQ(&first, &registry.counter("c_total", "x", {"l"}, {"v"}));
}

TEST(Metrics, HostileLabelValuesEndInOneChild) {
    Registry registry(3);
    for (int i = 0; i < 50; ++i) registry.counter("c_total", "x", {"a", "b"}, {std::to_string(i), "y"}).add();
    EXPECT_EQ(registry.counter("c_total", "x", {"a", "b"}, {"other", "other"}).value(), 47);
    EXPECT_EQ(registry.counter("c_total", "x", {"a", "b"}, {"1", "y"}).value(), 1);
    std::string const text = registry.render();
    EXPECT_EQ(std::ranges::count(text, '\n'), 2 + 4);
}

TEST(Metrics, CollectorsRunBeforeEachRender) {
    Registry registry;
    auto& gauge = registry.gauge("g", "x");
    registry.on_collect([&] { gauge.add(1); });
    registry.on_collect([&] { registry.gauge("late", "declared while rendering").set(7); });
    EXPECT_NE(registry.render().find("late 7\n"), std::string::npos);
    EXPECT_NE(registry.render().find("g 2\n"), std::string::npos);
}

TEST(MetricsDeathTest, ANameThatChangesItsKindIsABug) {
    Registry registry;
    registry.counter("x_total", "x");
    EXPECT_DEATH(registry.gauge("x_total", "x"), "keeps its kind");
    EXPECT_DEATH(registry.counter("x_total", "x", {"l"}, {"v"}), "keeps its kind");
    EXPECT_DEATH(registry.counter("9x", "x"), "grammar");
    EXPECT_DEATH(registry.histogram("h", "x", {2, 1}), "ascend");
}

TEST(Metrics, ThreadsCountWithoutLoss) {
    Registry registry(8);
    std::vector<std::thread> threads;
    for (int t = 0; t < 4; ++t) {
        threads.emplace_back([&registry, t] {
            auto& histogram = registry.histogram("h", "x", {1});
            for (int i = 0; i < 2000; ++i) {
                registry.counter("c_total", "x", {"t"}, {std::to_string((t + i) % 16)}).add();
                histogram.observe(i % 3);
                if (i % 500 == 0) (void)registry.render();
            }
        });
    }
    for (auto& thread : threads) thread.join();
    double total = registry.counter("c_total", "x", {"t"}, {"other"}).value();
    for (int i = 0; i < 16; ++i) {
        auto& child = registry.counter("c_total", "x", {"t"}, {std::to_string(i)});
        if (&child != &registry.counter("c_total", "x", {"t"}, {"other"})) total += child.value();
    }
    EXPECT_EQ(total, 8000);
    EXPECT_EQ(registry.histogram("h", "x", {1}).count(), 8000U);
}

TEST(Metrics, ForgetsTheChildrenOfOneLabelValue) {
    Registry registry;
    registry.counter("c_total", "x", {"model", "outcome"}, {"a", "ok"}).add();
    registry.counter("c_total", "x", {"model", "outcome"}, {"b", "ok"}).add();
    registry.gauge("g", "x", {"name"}, {"a"}).set(1);
    registry.forget("model", "a");
    auto const text = registry.render();
    EXPECT_EQ(text.find("model=\"a\""), std::string::npos);
    EXPECT_NE(text.find("c_total{model=\"b\",outcome=\"ok\"} 1"), std::string::npos);
    EXPECT_NE(text.find("g{name=\"a\"} 1"), std::string::npos) << "another label";
    EXPECT_EQ(registry.counter("c_total", "x", {"model", "outcome"}, {"a", "ok"}).value(), 0) << "counts anew";
}

}  // namespace
}  // namespace hearth::telemetry
