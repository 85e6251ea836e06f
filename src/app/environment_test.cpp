// What of the machine and of its memory a model is served with.
#include "app/environment.h"

#include <cstdint>
#include <cstdlib>
#include <fstream>
#include <optional>
#include <string>
#include <utility>

#include <gtest/gtest.h>

#include "llama/libllama_backend.h"
#include "models/gguf.h"
#include "testing/gguf_writer.h"
#include "testing/temporary_folder.h"

namespace hearth::app {
namespace {

class Fitting : public ::testing::Test {
protected:
    Fitting() { engine.cache_disk = "0"; }
    std::string write(std::string const& name, std::uint32_t type, std::uint32_t width) {
        auto const path = folder / (name + ".gguf");
        std::ofstream(path, std::ios::binary) << models::testing::tiny_llama(type, width).build();
        return path;
    }

    hearth::testing::TemporaryFolder folder;
    EngineFlags engine;
};

// Of all its workers: what they share is there once.
std::uint64_t sum_of(serving::ModelSpec const& spec) {
    return spec.instances * spec.memory_bytes - (spec.instances - 1) * spec.shared_bytes;
}

TEST_F(Fitting, TheCacheGetsWhatIsLeftForOneWorker) {
    auto const path = write("m", 0, 640);
    auto const whole = spec_of("m", path, {}, engine);
    ASSERT_TRUE(whole) << whole.error().message;
    EXPECT_GT(whole->shared_bytes, whole->memory_bytes / 20) << "or nothing below would depend on it";
    engine.memory_bytes = whole->memory_bytes / 100 * 107;
    auto spec = spec_of("m", path, {}, engine);
    ASSERT_TRUE(spec) << spec.error().message;
    EXPECT_EQ(spec->kv_cells, 0U) << "one has room for all cells";
    for (std::uint32_t const instances : {2U, 3U}) {
        spec->instances = instances;
        ASSERT_TRUE(fit_cache(*spec, engine));
        EXPECT_GT(spec->kv_cells, 0U);
        EXPECT_LE(sum_of(*spec), engine.memory_bytes);
        EXPECT_GE(sum_of(*spec), engine.memory_bytes / 10 * 9) << "and no more is given up than need be";
    }
    spec->instances = 1;
    spec->adapter_bytes = engine.memory_bytes / 3;
    ASSERT_TRUE(fit_cache(*spec, engine));
    EXPECT_GT(spec->kv_cells, 0U);
    EXPECT_LE(spec->memory_bytes, engine.memory_bytes) << "with the adapters";
    EXPECT_GE(spec->memory_bytes, engine.memory_bytes / 10 * 9);
    engine.kv_cells = 1000;
    ASSERT_TRUE(fit_cache(*spec, engine));
    EXPECT_EQ(spec->kv_cells, 1000U);
}

// Held to what a worker maps: more must not be promised to be shared.
TEST_F(Fitting, WeightsThatKernelsPackAreNotShared) {
    // Those that files of weights come in, by number.
    for (std::uint32_t const type : {0U, 1U, 2U, 3U, 6U, 7U, 8U, 10U, 11U, 12U, 13U, 14U, 20U, 23U, 30U, 39U}) {
        auto const name = std::string(models::ggml_type_name(type));
        llama::LoadOptions options;
        options.path = write(name, type, 256);
        options.kv_cells = 256;
        options.threads = 1;
        auto const spec = spec_of("m", options.path, {}, engine);
        ASSERT_TRUE(spec) << spec.error().message;
        auto const backend = llama::load_libllama(options);
        ASSERT_TRUE(backend) << backend.error().message;
        auto const mapped = (*backend)->properties().info.shared_bytes;
        EXPECT_LE(spec->shared_bytes, mapped) << name;
        bool const plain = name == "F32" || name == "BF16" || name == "Q5_0";
        EXPECT_TRUE(!plain || spec->shared_bytes == mapped) << name << ": " << spec->shared_bytes << " of " << mapped;
    }
}

TEST_F(Fitting, NothingIsPackedWhereProductsAreComputedByColumn) {
    auto const path = write("m", 2, 256);  // Q4_0
    auto const packed = spec_of("m", path, {}, engine);
    engine.deterministic = true;
    auto const plain = spec_of("m", path, {}, engine);
    ASSERT_TRUE(packed && plain);
    EXPECT_LE(packed->shared_bytes, plain->shared_bytes);
    auto const files = models::read_gguf_model(path);
    ASSERT_TRUE(files);
    std::uint64_t all = 0;
    for (auto const& tensor : files->front().tensors) all += tensor.bytes;
    EXPECT_EQ(plain->shared_bytes, all);
}

TEST_F(Fitting, AnUnknownVariantSharesNothing) {
    engine.cpu_variant = "altivec";
    auto const spec = spec_of("m", write("m", 0, 32), {}, engine);
    ASSERT_TRUE(spec) << spec.error().message;
    EXPECT_EQ(spec->shared_bytes, 0U);
}

TEST_F(Fitting, WhatIsNotNamedGetsWhatItCanUseOfTheContext) {
    auto const path = write("m", 0, 32);
    engine.context = 32768;
    EXPECT_EQ(engine_for(path, engine)->context, 64U);
    engine.context = 32;
    EXPECT_EQ(engine_for(path, engine)->context, 32U);
    engine.context = 0;
    EXPECT_EQ(engine_for(path, engine)->context, 0U);
}

// One variable of the environment, as it was before at its end.
class Variable {
public:
    Variable(std::string name, std::string const& value) : name_(std::move(name)) {
        if (char const* const old = std::getenv(name_.c_str()); old != nullptr) old_ = old;
        ::setenv(name_.c_str(), value.c_str(), 1);
    }
    ~Variable() {
        if (old_) ::setenv(name_.c_str(), old_->c_str(), 1);
        else ::unsetenv(name_.c_str());
    }
    Variable(Variable const&) = delete;
    Variable& operator=(Variable const&) = delete;

private:
    std::string const name_;
    std::optional<std::string> old_;
};

TEST(NetworkEnvironment, TheProxyIsToldWithWhatItIsNotFor) {
    Variable const proxy("HTTPS_PROXY", "http://proxy.lan:3128");
    Variable const lower("no_proxy", "lower.lan");
    {
        Variable const upper("NO_PROXY", "upper.lan,10.0.0.0/8");
        auto const network = network_settings();
        ASSERT_TRUE(network) << network.error().message;
        ASSERT_TRUE(network->client.proxy);
        EXPECT_EQ(network->client.proxy->host, "proxy.lan");
        EXPECT_EQ(network->client.no_proxy, "upper.lan,10.0.0.0/8");
    }
    Variable const upper("NO_PROXY", "");
    EXPECT_EQ(network_environment().no_proxy, "lower.lan");
}

}  // namespace
}  // namespace hearth::app
