"""An untrusted plugin that renders: a golden knot under a glass bell, traced ray by ray in a fragment shader.

It is loaded after the seal and finds the context that early init made. It opens nothing and starts nothing.
"""

# moderngl's stubs leave the type of a vertex array's parts open.
# pyright: reportUnknownMemberType=false

from __future__ import annotations

from collections.abc import Iterator

import moderngl

from belljar import BufferLike, handed

VERTEX = """
#version 330
const vec2 CORNERS[3] = vec2[3](vec2(-1, -1), vec2(3, -1), vec2(-1, 3));
out vec2 place;
void main() {
    place = CORNERS[gl_VertexID];
    gl_Position = vec4(place, 0, 1);
}
"""

FRAGMENT = """
#version 330
uniform float turn;
uniform float aspect;
in vec2 place;
out vec4 colour;

const float FAR = 1e9;
const float TABLE = 0.0, SOCKET = 0.24, SOCKET_RADIUS = 1.18;   // heights and radii of what stands there
const float BELL_RADIUS = 0.98, SHOULDER = 1.75;
const vec3 KNOT = vec3(0.0, 1.28, 0.0);
const float KNOT_RADIUS = 0.93, KNOB_RADIUS = 0.13;
const vec3 KNOB = vec3(0.0, SHOULDER + BELL_RADIUS + KNOB_RADIUS - 0.02, 0.0);
const vec3 LAMP = normalize(vec3(0.55, 0.9, 0.42));

float soft_box(vec3 way, vec3 towards, float wide, float high) {
    vec3 side = normalize(cross(vec3(0, 1, 0), towards)), up = cross(towards, side);
    float ahead = dot(way, towards);
    vec2 at = abs(vec2(dot(way, side), dot(way, up)) / max(ahead, 1e-3)) - vec2(wide, high);
    return ahead > 0.0 ? smoothstep(0.06, -0.06, max(at.x, at.y)) : 0.0;
}

vec3 room(vec3 way) {  // a wall at dusk, with a glow along the floor
    vec3 wall = mix(vec3(0.040, 0.058, 0.100), vec3(0.008, 0.012, 0.028), smoothstep(-0.05, 0.40, way.y));
    return wall + vec3(0.14, 0.058, 0.022) * exp(-9.0 * abs(way.y));
}

vec3 studio(vec3 way) {  // what is mirrored: the room, a large lamp, a window and a warm strip
    vec3 light = room(way) + vec3(0.10, 0.13, 0.20) * smoothstep(0.1, 1.0, way.y);
    light += vec3(5.2, 4.6, 3.8) * soft_box(way, LAMP, 0.34, 0.26);
    light += vec3(1.1, 1.6, 2.4) * soft_box(way, normalize(vec3(-0.85, 0.35, 0.3)), 0.26, 0.55);
    light += vec3(2.2, 1.0, 0.4) * soft_box(way, normalize(vec3(0.1, 0.25, -0.95)), 0.9, 0.05);
    return light;
}

float knot(vec3 at) {  // a trefoil: two points that wind one and a half times around a ring
    at -= KNOT;
    float around = atan(at.z, at.x) * 1.5, c = cos(around), s = sin(around);
    vec2 across = mat2(c, s, -s, c) * vec2(length(at.xz) - 0.52, at.y);
    across.x = abs(across.x) - 0.235;
    return 0.55 * (length(across) - 0.135);
}

vec2 sphere(vec3 from, vec3 way, vec3 centre, float radius) {
    vec3 off = from - centre;
    float b = dot(off, way), c = dot(off, off) - radius * radius, d = b * b - c;
    return d < 0.0 ? vec2(FAR, -FAR) : vec2(-b - sqrt(d), -b + sqrt(d));
}

float meet_knot(vec3 from, vec3 way) {
    vec2 span = sphere(from, way, KNOT, KNOT_RADIUS);
    float t = max(span.x, 0.0);
    for (int i = 0; i < 64 && t < span.y; i++) {
        float gap = knot(from + t * way);
        if (gap < 0.0006) return t;
        t += gap;
    }
    return FAR;
}

vec3 knot_normal(vec3 at) {
    vec2 e = vec2(0.0015, -0.0015);
    return normalize(e.xyy * knot(at + e.xyy) + e.yyx * knot(at + e.yyx) + e.yxy * knot(at + e.yxy)
                     + e.xxx * knot(at + e.xxx));
}

float meet_socket(vec3 from, vec3 way, out vec3 normal) {  // a disc with a chamfer that light catches
    float t = FAR;
    float a = dot(way.xz, way.xz), b = dot(from.xz, way.xz);
    float d = b * b - a * (dot(from.xz, from.xz) - SOCKET_RADIUS * SOCKET_RADIUS);
    if (d > 0.0) {
        float side = (-b - sqrt(d)) / a, y = from.y + side * way.y;
        if (side > 0.0 && y > TABLE && y < SOCKET) {
            t = side;
            float chamfer = 1.6 * smoothstep(0.05, 0.0, SOCKET - y);
            normal = normalize(vec3((from + t * way).xz, chamfer).xzy);
        }
    }
    float top = (SOCKET - from.y) / way.y;
    vec3 at = from + top * way;
    if (top > 0.0 && top < t && dot(at.xz, at.xz) < SOCKET_RADIUS * SOCKET_RADIUS) { t = top; normal = vec3(0, 1, 0); }
    return t;
}

vec2 meet_bell(vec3 from, vec3 way) {  // where a ray enters the glass, and where it leaves it
    float a = dot(way.xz, way.xz), b = dot(from.xz, way.xz);
    float d = b * b - a * (dot(from.xz, from.xz) - BELL_RADIUS * BELL_RADIUS);
    if (d < 0.0) return vec2(FAR, -FAR);
    vec2 wall = (-b + vec2(-1, 1) * sqrt(d)) / a, y = from.y + wall * way.y;
    vec2 dome = sphere(from, way, vec3(0, SHOULDER, 0), BELL_RADIUS), dome_y = from.y + dome * way.y;
    float enter = y.x < SHOULDER ? (y.x > SOCKET ? wall.x : FAR) : (dome_y.x >= SHOULDER ? dome.x : FAR);
    float leave = y.y < SHOULDER ? (y.y > SOCKET ? wall.y : -FAR) : (dome_y.y >= SHOULDER ? dome.y : -FAR);
    return vec2(enter, leave);
}

vec3 bell_normal(vec3 at) {
    return normalize(vec3(at.x, max(at.y - SHOULDER, 0.0), at.z));
}

float lit(vec3 at, float hardness) {  // how much of the lamp arrives
    float seen = 1.0;
    vec2 span = sphere(at, LAMP, KNOT, KNOT_RADIUS);
    for (float t = max(span.x, 0.02), i = 0.0; i < 22.0 && t < span.y; i++) {
        float gap = knot(at + t * LAMP);
        seen = min(seen, hardness * gap / t);
        if (seen < 0.01) break;
        t += clamp(gap, 0.03, 0.2);
    }
    vec2 glass = meet_bell(at, LAMP);
    float rim = glass.y > 0.0 ? 0.86 - 0.45 * pow(1.0 - abs(dot(LAMP, bell_normal(at + glass.y * LAMP))), 3.0) : 1.0;
    vec3 ignored;
    bool behind = meet_socket(at + 0.002 * LAMP, LAMP, ignored) < FAR;
    return behind ? 0.0 : clamp(seen, 0.0, 1.0) * rim;
}

vec3 wood(vec3 at, vec3 normal, vec3 way) {
    float ring = length(at.xz * vec2(1.0, 0.35) + vec2(0.9, 0.2)) * 17.0 + 0.6 * sin(at.x * 9.0) + at.y * 4.0;
    vec3 grain = mix(vec3(0.16, 0.065, 0.03), vec3(0.30, 0.13, 0.06), 0.5 + 0.5 * sin(ring + 0.5 * sin(ring * 3.1)));
    float lamp = max(dot(normal, LAMP), 0.0) * lit(at + 0.002 * normal, 7.0);
    vec3 light = vec3(3.2, 2.8, 2.3) * lamp + vec3(0.20, 0.24, 0.34) * (0.6 + 0.4 * normal.y);
    float under = smoothstep(0.25, 1.0, length(vec3(at.xz, 0.0)) + 0.45) * 0.6 + 0.4;   // it is darker below the knot
    float gloss = 0.04 + 0.5 * pow(1.0 - max(dot(-way, normal), 0.0), 5.0);
    return grain * light * (normal.y > 0.9 ? under : 1.0) + gloss * studio(reflect(way, normal));
}

vec3 gold(vec3 at, vec3 way) {
    vec3 normal = knot_normal(at), away = reflect(way, normal);
    float open = clamp(knot(at + 0.22 * normal) / 0.121, 0.15, 1.0);   // less light in its folds
    vec3 tint = mix(vec3(1.0, 0.60, 0.17), vec3(1.0, 0.90, 0.70), pow(1.0 - max(dot(-way, normal), 0.0), 5.0));
    float lamp = max(dot(normal, LAMP), 0.0) * lit(at + 0.02 * normal, 9.0);
    return tint * (studio(away) * open + 1.1 * lamp + 0.10 * open);
}

vec3 table(vec3 at, vec3 way, float far) {
    vec2 tile = abs(fract(at.xz * 0.8 + 0.5) - 0.5);
    float seam = smoothstep(0.0, 0.012 + 0.004 * far, min(tile.x, tile.y));
    vec3 stone = mix(vec3(0.015), vec3(0.070, 0.080, 0.095), seam);
    float lamp = LAMP.y * lit(at + vec3(0, 0.002, 0), 6.0);
    float foot = smoothstep(0.0, 0.8, length(at.xz) - SOCKET_RADIUS) * 0.55 + 0.45;
    return stone * (vec3(3.0, 2.6, 2.1) * lamp + vec3(0.30, 0.36, 0.50)) * foot;
}

float schlick(float straight) { return 0.04 + 0.96 * pow(1.0 - straight, 5.0); }

vec3 solid(vec3 from, vec3 way, out float t) {  // whatever is not glass, and not the table
    vec3 normal;
    t = meet_socket(from, way, normal);
    float k = meet_knot(from, way), b = sphere(from, way, KNOB, KNOB_RADIUS).x;
    if (k < t) { t = k; return gold(from + t * way, way); }
    if (b > 0.0 && b < t) {
        t = b;
        vec3 n = (from + t * way - KNOB) / KNOB_RADIUS;
        return vec3(1.0, 0.66, 0.25) * studio(reflect(way, n)) + vec3(0.05, 0.03, 0.01);
    }
    return t < FAR ? wood(from + t * way, normal, way) : vec3(0);
}

vec3 look(vec3 from, vec3 way) {
    float t, mirror_t;
    vec3 seen = solid(from, way, t);
    float down = (TABLE - from.y) / way.y;
    if (t == FAR && down > 0.0) {
        t = down;
        vec3 at = from + t * way, away = vec3(way.x, -way.y, way.z);
        vec3 mirrored = solid(at + 0.001 * away, away, mirror_t);
        if (mirror_t == FAR) mirrored = room(away);
        vec3 lit_table = table(at, way, t) + mirrored * mix(0.16, 0.9, pow(1.0 - abs(way.y), 4.0)) * 0.75;
        seen = mix(lit_table, room(vec3(way.x, 0.0, way.z)), smoothstep(4.5, 15.0, t));
    } else if (t == FAR) {
        seen = room(way);
    }
    vec2 glass = meet_bell(from, way);
    if (glass.y > 0.0 && glass.y < t) {
        vec3 normal = -bell_normal(from + glass.y * way);
        float share = schlick(max(dot(-way, normal), 0.0));
        seen = mix(seen * vec3(0.96, 0.99, 0.985), studio(reflect(way, normal)), 0.6 * share);
    }
    if (glass.x > 0.0 && glass.x < t) {
        vec3 normal = bell_normal(from + glass.x * way);
        float share = schlick(max(dot(-way, normal), 0.0));
        seen = mix(seen * vec3(0.955, 0.985, 0.98), studio(reflect(way, normal)), share);
    }
    return seen;
}

void main() {
    float angle = 6.2831853 * turn;
    vec3 eye = vec3(5.1 * sin(angle), 2.35, 5.1 * cos(angle)), ahead = normalize(vec3(0, 1.36, 0) - eye);
    vec3 right = normalize(cross(ahead, vec3(0, 1, 0))), up = cross(right, ahead);
    vec3 light = look(eye, normalize(ahead * 2.5 + place.x * aspect * right + place.y * up));
    light *= 0.55 - 0.11 * dot(place, place);
    light = light * (2.51 * light + 0.03) / (light * (2.43 * light + 0.59) + 0.14);   // as film does
    colour = vec4(pow(clamp(light, 0.0, 1.0), vec3(1.0 / 2.2)), 1.0);
}
"""


class BellJar:
    """Renders a stream of frames."""

    def __init__(self) -> None:
        self.context: moderngl.Context = handed("graphics-egl")
        self.program = self.context.program(vertex_shader=VERTEX, fragment_shader=FRAGMENT)
        self.triangle = self.context.vertex_array(self.program, [])

    def renderer(self) -> str:
        """What draws, in the words of the driver."""
        return f"{self.context.info['GL_RENDERER']}, OpenGL {self.context.info['GL_VERSION']}"

    def frames(self, turns: list[float], width: int, height: int) -> Iterator[BufferLike]:
        """Yield the scene after each of *turns* of the table, from below to above, three bytes a pixel."""
        target = self.context.simple_framebuffer((width, height), components=3)
        pixels = bytearray(width * height * 3)  # one for all: a frame is copied when it is sent
        self.program["aspect"] = width / height
        try:
            for turn in turns:
                self.program["turn"] = turn
                target.use()
                self.triangle.render(vertices=3)
                target.read_into(pixels, components=3, alignment=1)
                yield pixels
        finally:
            target.release()
