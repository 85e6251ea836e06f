#include "app/adapters.h"

#include <fstream>

#include <gtest/gtest.h>

#include "models/adapter.h"
#include "testing/gguf_writer.h"
#include "testing/temporary_folder.h"

namespace hearth::app {
namespace {

using models::testing::tiny_adapter;
using models::testing::tiny_llama;
using serving::ModelSpec;

class AdapterArguments : public ::testing::Test {
protected:
    AdapterArguments() {
        std::ofstream(base, std::ios::binary) << tiny_llama().build();
        std::ofstream(adapter, std::ios::binary) << tiny_adapter().build();
        std::ofstream(odd, std::ios::binary) << tiny_adapter().build();
        for (auto const* id : {"smol:latest", "tiny"}) {
            auto& spec = specs.emplace_back();
            spec.id = id;
            spec.path = base;
            spec.memory_bytes = 1'000'000;
        }
    }
    Status assign(std::vector<std::string> const& arguments) { return assign_adapters(specs, arguments); }
    void expect_refused(std::vector<std::string> const& arguments, std::string_view part) {
        auto const assigned = assign(arguments);
        ASSERT_FALSE(assigned) << arguments.back();
        EXPECT_NE(assigned.error().message.find(part), std::string::npos) << assigned.error().message;
    }

    hearth::testing::TemporaryFolder folder;
    std::string base = folder / "base.gguf";
    std::string adapter = folder / "pirate.gguf";
    std::string odd = folder / "b:2";
    std::vector<ModelSpec> specs;
};

TEST_F(AdapterArguments, NameABaseAFileAndAScale) {
    ASSERT_TRUE(assign({"pirate=tiny:" + adapter, "mild=tiny:" + adapter + ":0.25", "odd=smol:latest:" + odd,
                        "pirate=tiny:" + adapter + ":-1"}));
    auto const& [smol, tiny] = std::tie(specs[0], specs[1]);
    ASSERT_EQ(tiny.variants.size(), 2U);
    EXPECT_EQ(tiny.variants[0].id, "pirate");
    EXPECT_EQ(tiny.variants[0].adapters, (std::vector<modelfile::Adapter>{{adapter, 1}, {adapter, -1}}));
    EXPECT_EQ(tiny.variants[1].adapters, (std::vector<modelfile::Adapter>{{adapter, 0.25F}}));
    ASSERT_EQ(smol.variants.size(), 1U);
    EXPECT_EQ(smol.variants[0].adapters, (std::vector<modelfile::Adapter>{{odd, 1}})) << "a file is really called so";
    EXPECT_EQ(tiny.memory_bytes, 1'000'000 + models::adapter_bytes(*models::read_adapter(adapter))) << "counted once";
}

TEST_F(AdapterArguments, WhatCannotBeIsNamed) {
    expect_refused({"pirate"}, "NAME=BASE:FILE[:SCALE]");
    expect_refused({"=tiny:" + adapter}, "NAME=BASE:FILE[:SCALE]");
    expect_refused({"pirate=nobody:" + adapter}, "no model that --model names");
    expect_refused({"pirate=tiny:"}, "names no file");
    expect_refused({"pirate=tiny:" + adapter + ":1000"}, "a scale is -100 to 100");
    expect_refused({"pirate=tiny:" + adapter + ":nan"}, "a scale is");
    expect_refused({"pirate=tiny:/nonexistent.gguf"}, "/nonexistent.gguf");
    expect_refused({"pirate=tiny:" + base}, "not an adapter");
    expect_refused({"tiny=tiny:" + adapter}, "there is a model 'tiny' already");
    expect_refused({"p=tiny:" + adapter, "p=smol:latest:" + adapter}, "there is a model 'p' already");
}

TEST_F(AdapterArguments, ADefinitionsAreOnTopUnderItsOwnName) {
    auto& spec = specs[1];
    auto definition = std::make_shared<modelfile::Definition>();
    spec.definition = definition;
    ASSERT_TRUE(add_own_adapters(spec));
    EXPECT_TRUE(spec.variants.empty());
    definition->adapters = {{adapter, 1}};
    ASSERT_TRUE(add_own_adapters(spec));
    ASSERT_EQ(spec.variants.size(), 1U);
    EXPECT_EQ(serving::adapters_of(spec, "tiny"), 1U);
    ASSERT_TRUE(assign({"more=tiny:" + odd}));
    EXPECT_EQ(spec.variants[1].adapters, (std::vector<modelfile::Adapter>{{adapter, 1}, {odd, 1}}));
}

}  // namespace
}  // namespace hearth::app
