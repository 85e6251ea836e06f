// House: the models of a pool, and what keeps them within its memory.
//
// Beside the models that have the names there are those that come to take one over
// (swap()) and those that lost theirs: they finish what they have and go. All of them
// count.
//
// Who failed for want of memory is tried again where nobody has to make room for it.
//
// Under a budget what models leave of it is shared out among their caches of prefixes
// (Model::limit_cache), so that caches never stand where a model could. Under pressure
// from outside caches go first, then idle models, one each time it is told that the
// pressure is high still.
//
// Threads: the loop's. Private to serving.
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "base/clock.h"
#include "base/result.h"
#include "net/loop.h"
#include "net/task.h"
#include "serving/instances.h"
#include "serving/pool.h"

namespace hearth::serving {

// Before anything was loaded.
[[nodiscard]] std::uint64_t need_of(ModelSpec const& spec);

struct House {
    House(Model::Environment environment);

    Model::Environment const env;
    std::shared_ptr<net::Signal> const changed;
    std::vector<std::shared_ptr<Instances>> models;    // by their names
    std::vector<std::shared_ptr<Instances>> arriving;  // loaded beside the one whose name they will have
    std::vector<std::shared_ptr<Instances>> retired;   // until they are gone
    Pressure pressure = Pressure::none;
    bool one_is_to_go = false;  // under pressure, as soon as one is idle
    telemetry::Counter& relieved;  // models let go under pressure
    bool gone = false;             // the pool is

    [[nodiscard]] std::vector<std::shared_ptr<Instances>> all() const;
    [[nodiscard]] std::shared_ptr<Instances> find(std::string_view name) const;
    [[nodiscard]] Status check_budget(std::string const& id, std::uint64_t cost) const;
    // Whether it can be loaded although `old`, who has its name, and whoever is pinned stay.
    [[nodiscard]] Status check_room_beside(Instances const& old, ModelSpec const& spec) const;
    [[nodiscard]] std::uint64_t used() const;
};

// Decides who is loaded, until the house is gone.
net::Task<void> keep_house(std::shared_ptr<House> house);

// See Pool::swap().
net::Task<Status> swap_model(std::shared_ptr<House> house, std::string name, ModelSpec spec, Duration timeout);

}  // namespace hearth::serving
