// Registry: counters, gauges and histograms in Prometheus text format 0.0.4.
//
// A family is declared once (name, help, label names); a labelled child is
// looked up once and kept by the caller: updating it is one atomic operation.
// Children per family are bounded (series_max); past that all new label values
// share the child with labels "other", so that hostile label values cannot
// grow memory.
//
// Threads: everything from any thread. Ownership: children live as long as the
// registry, or until forget().
#pragma once

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

namespace hearth::telemetry {

using Labels = std::vector<std::string>;  // values, in the order of the family's label names

class Counter {
public:
    void add(double amount = 1) { value_.fetch_add(amount, std::memory_order_relaxed); }
    [[nodiscard]] double value() const { return value_.load(std::memory_order_relaxed); }

private:
    std::atomic<double> value_ = 0;
};

class Gauge {
public:
    void set(double v) { value_.store(v, std::memory_order_relaxed); }
    void add(double amount) { value_.fetch_add(amount, std::memory_order_relaxed); }
    [[nodiscard]] double value() const { return value_.load(std::memory_order_relaxed); }

private:
    std::atomic<double> value_ = 0;
};

class Histogram {
public:
    explicit Histogram(std::vector<double> bounds);
    void observe(double v);
    [[nodiscard]] std::vector<double> const& bounds() const { return bounds_; }
    // Not cumulative; i == bounds().size() is the rest. REQUIRES: i <= bounds().size()
    [[nodiscard]] std::uint64_t bucket(std::size_t i) const { return counts_[i].load(std::memory_order_relaxed); }
    [[nodiscard]] double sum() const { return sum_.load(std::memory_order_relaxed); }
    [[nodiscard]] std::uint64_t count() const;

private:
    std::vector<double> bounds_;  // ascending upper bounds, +Inf implied
    std::unique_ptr<std::atomic<std::uint64_t>[]> counts_;
    std::atomic<double> sum_ = 0;
};

class Registry {
public:
    explicit Registry(std::size_t series_max = 1000);
    ~Registry();
    Registry(Registry const&) = delete;
    Registry& operator=(Registry const&) = delete;

    // The child of family `name` with these label values; declares the family at
    // first use. REQUIRES: a name keeps its kind, label names and bounds; names
    // follow Prometheus' grammar; as many values as label names; bounds ascend.
    Counter& counter(std::string_view name, std::string_view help, std::vector<std::string> const& label_names = {},
                     Labels const& labels = {});
    Gauge& gauge(std::string_view name, std::string_view help, std::vector<std::string> const& label_names = {},
                 Labels const& labels = {});
    Histogram& histogram(std::string_view name, std::string_view help, std::vector<double> const& bounds,
                         std::vector<std::string> const& label_names = {}, Labels const& labels = {});

    // Ends all children, of every family, whose label `label_name` has this value. What
    // counter(), gauge() and histogram() gave for them is gone. REQUIRES: nobody uses it any more
    void forget(std::string_view label_name, std::string_view value);

    // Called before each render(), to refresh gauges that are read, not pushed;
    // on the thread of render(), which may be several at once. What `callback`
    // captures must outlive the registry.
    void on_collect(std::function<void()> callback);

    // Families and children in the order of their names.
    [[nodiscard]] std::string render();

private:
    struct Impl;
    std::unique_ptr<Impl> impl_;
};

}  // namespace hearth::telemetry
