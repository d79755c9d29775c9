import com.fasterxml.jackson.databind.JsonNode;
import com.fasterxml.jackson.databind.ObjectMapper;
import com.fasterxml.jackson.databind.node.ArrayNode;
import com.fasterxml.jackson.databind.node.JsonNodeFactory;
import com.fasterxml.jackson.databind.node.ObjectNode;
import java.io.BufferedWriter;
import java.io.IOException;
import java.io.OutputStreamWriter;
import java.net.URI;
import java.net.http.HttpClient;
import java.net.http.HttpRequest;
import java.net.http.HttpResponse;
import java.nio.ByteBuffer;
import java.nio.charset.CharacterCodingException;
import java.nio.charset.StandardCharsets;
import java.time.Duration;
import java.util.ArrayList;
import java.util.Base64;
import java.util.HashMap;
import java.util.List;
import java.util.Map;
import java.util.Optional;
import java.util.Properties;
import org.apache.avro.Schema;
import org.apache.avro.generic.GenericDatumReader;
import org.apache.avro.generic.GenericRecord;
import org.apache.avro.io.BinaryDecoder;
import org.apache.avro.io.DecoderFactory;
import org.apache.kafka.clients.consumer.ConsumerRecord;
import org.apache.kafka.clients.consumer.KafkaConsumer;
import org.apache.kafka.common.PartitionInfo;
import org.apache.kafka.common.TopicPartition;
import org.apache.kafka.common.header.Header;
import org.apache.kafka.common.serialization.ByteArrayDeserializer;

/**
 * Reads topics from their start to the end they have now, and prints one line of JSON for each record.
 *
 * <p>A second opinion on what dosi writes: Kafka's own client and Avro's own decoder share no code with it. Only committed
 * records are seen.
 *
 * <p>TopicReader BOOTSTRAP_SERVERS REGISTRY_URL TOPIC…
 *
 * <p>A line has topic, partition, offset, timestamp (ms), key and headers, and one of: `avro` (a framed value, decoded with the
 * schema that the registry has under its id), `text` (a value that is UTF-8), `base64` (any other), or neither for a tombstone.
 * Keys and header values are text where they are UTF-8, else {"base64": …}.
 */
public final class TopicReader {
    private static final int FRAME_BYTES = 5;
    private static final Duration POLL = Duration.ofMillis(200);
    private static final Duration STALLED_AFTER = Duration.ofSeconds(60);

    private final ObjectMapper json = new ObjectMapper();
    private final HttpClient http = HttpClient.newHttpClient();
    private final Map<Integer, Optional<Schema>> schemas = new HashMap<>();
    private final String registry;

    private TopicReader(String registry) {
        this.registry = registry;
    }

    public static void main(String[] arguments) throws Exception {
        Properties settings = new Properties();
        settings.put("bootstrap.servers", arguments[0]);
        settings.put("isolation.level", "read_committed");
        settings.put("key.deserializer", ByteArrayDeserializer.class.getName());
        settings.put("value.deserializer", ByteArrayDeserializer.class.getName());
        settings.put("fetch.max.wait.ms", "50");
        TopicReader reader = new TopicReader(arguments[1]);
        try (KafkaConsumer<byte[], byte[]> consumer = new KafkaConsumer<>(settings);
                BufferedWriter out = new BufferedWriter(new OutputStreamWriter(System.out, StandardCharsets.UTF_8))) {
            List<TopicPartition> partitions = new ArrayList<>();
            for (String topic : List.of(arguments).subList(2, arguments.length)) {
                for (PartitionInfo partition : consumer.partitionsFor(topic)) {
                    partitions.add(new TopicPartition(topic, partition.partition()));
                }
            }
            reader.read(consumer, partitions, out);
        }
    }

    private void read(KafkaConsumer<byte[], byte[]> consumer, List<TopicPartition> partitions, BufferedWriter out)
            throws IOException, InterruptedException {
        consumer.assign(partitions);
        consumer.seekToBeginning(partitions);
        Map<TopicPartition, Long> ends = consumer.endOffsets(partitions);
        long stalledAt = System.nanoTime() + STALLED_AFTER.toNanos();
        while (ends.entrySet().stream().anyMatch(end -> consumer.position(end.getKey()) < end.getValue())) {
            for (ConsumerRecord<byte[], byte[]> record : consumer.poll(POLL)) {
                if (record.offset() < ends.get(new TopicPartition(record.topic(), record.partition()))) {
                    out.write(json.writeValueAsString(line(record)));
                    out.newLine();
                }
                stalledAt = System.nanoTime() + STALLED_AFTER.toNanos();
            }
            if (System.nanoTime() > stalledAt) {
                throw new IOException("no record for " + STALLED_AFTER + " before the end " + ends);
            }
        }
    }

    private ObjectNode line(ConsumerRecord<byte[], byte[]> record) throws IOException, InterruptedException {
        ObjectNode line = json.createObjectNode();
        line.put("topic", record.topic());
        line.put("partition", record.partition());
        line.put("offset", record.offset());
        line.put("timestamp", record.timestamp());
        line.set("key", textOrBase64(record.key()));
        ArrayNode headers = line.putArray("headers");
        for (Header header : record.headers()) {
            headers.addArray().add(header.key()).add(textOrBase64(header.value()));
        }
        byte[] value = record.value();
        if (value == null) {
            return line;
        }
        Optional<Schema> schema = value.length > FRAME_BYTES && value[0] == 0
                ? schema(ByteBuffer.wrap(value, 1, Integer.BYTES).getInt())
                : Optional.empty();
        if (schema.isPresent()) {
            line.set("avro", decode(schema.get(), value));
        } else if (text(value) != null) {
            line.put("text", text(value));
        } else {
            line.put("base64", Base64.getEncoder().encodeToString(value));
        }
        return line;
    }

    /** A record as JSON, unions without Avro's type tags: in an audit record a value says by itself what it is. */
    private JsonNode decode(Schema schema, byte[] value) throws IOException {
        BinaryDecoder decoder =
                DecoderFactory.get().binaryDecoder(value, FRAME_BYTES, value.length - FRAME_BYTES, null);
        GenericRecord record = new GenericDatumReader<GenericRecord>(schema).read(null, decoder);
        if (!decoder.isEnd()) {
            throw new IOException("bytes after the end of a record of " + schema.getFullName());
        }
        ObjectNode fields = json.createObjectNode();
        for (Schema.Field field : schema.getFields()) {
            fields.set(field.name(), plain(record.get(field.pos())));
        }
        return fields;
    }

    private JsonNode plain(Object value) {
        if (value instanceof Iterable<?> items) {
            ArrayNode array = json.createArrayNode();
            items.forEach(item -> array.add(plain(item)));
            return array;
        }
        if (value instanceof CharSequence) {
            return JsonNodeFactory.instance.textNode(value.toString());
        }
        return json.valueToTree(value);
    }

    /** Nothing where the registry has no such schema, or it is none of Avro: a dead letter keeps the frame it came in. */
    private Optional<Schema> schema(int id) throws IOException, InterruptedException {
        Optional<Schema> known = schemas.get(id);
        if (known == null) {
            HttpRequest ask = HttpRequest.newBuilder(URI.create(registry + "/schemas/ids/" + id)).build();
            HttpResponse<String> answer = http.send(ask, HttpResponse.BodyHandlers.ofString());
            if (answer.statusCode() != 200 && answer.statusCode() != 404) {
                throw new IOException("the registry does not tell schema " + id + ": " + answer.body());
            }
            JsonNode told = json.readTree(answer.body());
            boolean isAvro = told.has("schema") && told.path("schemaType").asText("AVRO").equals("AVRO");
            known = isAvro ? Optional.of(new Schema.Parser().parse(told.get("schema").asText())) : Optional.empty();
            schemas.put(id, known);
        }
        return known;
    }

    private JsonNode textOrBase64(byte[] bytes) {
        if (bytes == null) {
            return JsonNodeFactory.instance.nullNode();
        }
        String text = text(bytes);
        return text != null
                ? JsonNodeFactory.instance.textNode(text)
                : json.createObjectNode().put("base64", Base64.getEncoder().encodeToString(bytes));
    }

    private static String text(byte[] bytes) {
        try {
            return StandardCharsets.UTF_8.newDecoder().decode(ByteBuffer.wrap(bytes)).toString();
        } catch (CharacterCodingException notText) {
            return null;
        }
    }
}
